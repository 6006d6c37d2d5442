"""Retention beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured

RUN = "recurrences/training-cpu"


def recalled(name, pairs=32, rewritten=0):
    """The share of `pairs` facts that a small model named, the mean over seeds, of the recording RUN."""
    return fmean(row["accuracy"] for row in measured(RUN, what="recall", name=name, pairs=pairs, rewritten=rewritten))


def _needles(tokens=256):
    found = {
        name: fmean(row["found"] for row in measured("yoco/training-cpu", what="needle", name=name, tokens=tokens))
        for name in ("RetNet", "Transformer")
    }
    return f"facts hidden in {tokens} tokens: {found['RetNet']:.0%} found, by softmax {found['Transformer']:.0%}"


METHODS = [
    Method(
        topic="retention", name="Retention", page="2-retention/retention", task="text", training="scratch",
        lines=lambda context: bill.lines("retention", context),
        recall=Recall(RUN, "32 pairs", lambda: recalled("retention"), lambda: recalled("softmax")),
        kernels=(("prompt", "retention.launch_outputs"), ("gradients", "retention.launch_gradients"),
                 ("token", "retention.launch_step")),
        loses=Found("yoco/training-cpu", _needles),
        seen=(("YOCO, gated", "yoco"),),
    )
]  # fmt: skip
