"""What the chapter on attention does to the bill: grouped key heads, and a softmax that stores no scores."""

from dataclasses import replace

from effattn_core import costs
from effattn_core.bill import MODEL, Stage


def _changes(lines, context):
    cache = costs.cache_bytes(MODEL, context)
    return {
        "scores": replace(lines["scores"], text=0, explanation="a tile of scores lives on the chip, none is stored"),
        "cache": replace(lines["cache"], text=cache),
        "decode": replace(lines["decode"], text=cache),
    }


STAGE = Stage(
    topic="attention",
    place=(1, 1),
    method="Softmax attention",
    design="grouped heads, scores in tiles",
    on=None,
    changes=_changes,
    cost="Groups have to be trained with, and four query heads share what one key head keeps; the backward pass "
    "computes again the scores that were not stored.",
)
