"""Condensed chunks beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured

RUN = "focus/recall-cpu"


def _recalled(losses, chunks=4):
    return fmean(row["recall"] for row in measured(RUN, what="recall", losses=losses, chunks=chunks))


def _dense(chunks=4):
    return fmean(row["recall"] for row in measured(RUN, what="baseline", name="dense", chunks=chunks))


def _taught():
    return (
        f"taught by the paper's two losses ours names {_recalled('both'):.0%} of the facts in 4 chunks, untrained "
        f"{_recalled('untrained'):.0%}"
    )


METHODS = [
    Method(
        topic="focus", name="FocusLLM", page="4-sparse/focus", task="text", training="short",
        lines=lambda context: bill.lines("focus", context),
        recall=Recall(RUN, "facts in 4 chunks, taught by questions", lambda: _recalled("questions"), _dense),
        loses=Found(RUN, _taught),
        seen=(("Activation Beacon, read in order", "beacon"), ("REFRAG, one embedding per chunk", "refrag")),
    )
]  # fmt: skip
