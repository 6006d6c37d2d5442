"""Thinned keys beside the other methods of the book."""

from statistics import fmean

from effattn_core import bill
from effattn_core.choices import Found, Method, Recall
from effattn_core.recordings import measured

READ, RULE, PRUNED = "channels/smollm2-cpu", "learned, two stages", 0.7


def _found(rule, pruned):
    (row,) = measured(READ, what="needle", rule=rule, pruned=pruned)
    return row["found"] / row["asked"]


def _text(rule, pruned):
    return fmean(row["loss"] for row in measured(READ, what="text", rule=rule, pruned=pruned))


def _dearer():
    more = _text(RULE, PRUNED) - _text("dense", 0.0)
    return f"plain text pays: with {PRUNED:.0%} of the channels asked to go SmolLM2 loses {more:.2f} nats per token"


METHODS = [
    Method(
        topic="channels", name="LeanK", page="4-sparse/channels", task="text", training="short",
        lines=lambda context: bill.lines("channels", context),
        recall=Recall(READ, "numbers hidden in 768 tokens, 70% of the channels asked to go",
                      lambda: _found(RULE, PRUNED), lambda: _found("dense", 0.0)),
        kernels=(("token", "channels.launch_decode"),),
        loses=Found(READ, _dearer),
        seen=(("ThinK, chosen per prompt", "think"),),
    )
]  # fmt: skip
