"""A geometric autoencoder beside the other methods of the book."""

from statistics import fmean

from effattn_core.autoencoders.costs import sampling_passes
from effattn_core.choices import NO_TEXT, Found, Method, Recall
from effattn_core.recordings import measured

RUN, STEPS = "autoencoders/training-cpu", 10


def _price():
    (parameters,) = {row["parameters"] for row in measured(RUN, what="generator", name="GAE")}
    passes = sampling_passes(STEPS)
    return f"any tokenizer's generator costs the same: here {parameters:,} weights, {passes:.0f} passes per image"


def _distance(name):
    return fmean(row["distance"][-1][1] for row in measured(RUN, what="generator", name=name))


def _drawn_target():
    with_it, without = _distance("GAE"), _distance("unit RMS")
    return f"its teacher did not help drawing digits: Fréchet distance {with_it:.1f}, {without:.1f} without one"


METHODS = [
    Method(
        topic="autoencoders", name="GAE", page="5-latents/autoencoders", task="pictures", training="scratch",
        lines=None, price=_price, place=(5, 2),
        recall=Recall(stated=NO_TEXT, because="it makes the latents that a generator draws"),
        loses=Found(RUN, _drawn_target),
        seen=(("VA-VAE", "vavae"), ("RAE", "rae"), ("SphereAR", "spherear")),
    )
]  # fmt: skip
