"""A diffusion head per latent beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import ITS_MODEL_S, Found, Method, Recall
from effattn_core.recordings import measured

RUN = "latents/training-cpu"


def _distance(name, **sampler):
    return fmean(row["distance"] for row in measured(RUN, what="sampled", name=name, weight=1.5, **sampler))


def _codes():
    diffused = _distance("σ-VAE", steps=20, first=999)
    return f"codes drew nearer on digits: Fréchet distance {_distance('codes'):.1f}, diffused latents {diffused:.1f}"


METHODS = [
    Method(
        topic="latents", name="LatentLM", page="5-latents/latents", task="pictures", training="scratch",
        lines=lambda context: bill.lines("latents", context),
        recall=Recall(stated=ITS_MODEL_S, because="it adds a head, and attends as its model does"),
        kernels=(("head", "latents.launch_sample"), ("gradients", "latents.launch_weights")),
        loses=Found(RUN, _codes),
        seen=(("NextStep-1", "nextstep"), ("VibeVoice", "vibevoice"), ("MAR", "mar")),
    )
]  # fmt: skip
