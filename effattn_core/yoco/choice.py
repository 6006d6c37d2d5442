"""YOCO beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured

RUN, LENT = "yoco/training-cpu", "yoco/smollm2-cpu"


def _found(name, tokens=256):
    return fmean(row["found"] for row in measured(RUN, what="needle", name=name, tokens=tokens))


def _lent():
    """What SmolLM2 loses when layers read others' caches, untrained."""
    alone, lent = (
        fmean(row["loss"] for row in measured(LENT, what="lent", layer=layer)) for layer in (None, "every second")
    )
    return f"untrained: if every second layer borrows, SmolLM2 goes from {alone:.1f} to {lent:.1f} nats per token"


METHODS = [
    Method(
        topic="yoco", name="YOCO", page="3-yoco/yoco", task="text", training="scratch",
        lines=lambda context: bill.lines("yoco", context),
        recall=Recall(RUN, "facts hidden in 256 tokens", lambda: _found("YOCO, gated"), lambda: _found("Transformer")),
        kernels=(("prompt", "recurrences.launch_outputs"), ("cross-decoder", "attention.launch_forward")),
        loses=Found(LENT, _lent),
        seen=(("Phi-4-mini-flash-reasoning", "sambay"),),
    )
]  # fmt: skip
