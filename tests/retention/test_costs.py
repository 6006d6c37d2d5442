"""What a chunk of retention costs, and what retention moves on the bill."""

import pytest

from effattn_core import bill, costs
from effattn_core.retention import costs as costs_retention


def test_costs_of_a_chunk_and_the_bill_follow_from_their_formulas():
    cost = costs_retention.chunk_cost(64, 64, 64)
    assert (cost.inner, cost.state, cost.moved) == (2 * 64 * 128, 4 * 64 * 64, 2 * 6 * 64 + 8 * 64)
    card = costs.HARDWARE["H100 SXM"]
    best = costs_retention.best_chunk(card)
    seconds = {chunk: costs_retention.chunk_cost(chunk).seconds(card) for chunk in costs_retention.CHUNKS}
    assert seconds[best] == min(seconds.values()) and best not in (min(seconds), max(seconds))
    wide = costs_retention.chunk_cost(1024)
    assert seconds[8] == costs_retention.chunk_cost(8).moved / card.bandwidth, "moving is the longer with small chunks"
    assert seconds[1024] == (wide.inner + wide.state) / card.peak("bfloat16"), "computing is, with large ones"
    moved = {new.key: new.value < old.value for old, new in bill.moved("retention")}
    assert moved == {"prefill": True, "cache": True, "decode": True}
    short, long = (bill.lines("retention", context)["cache"] for context in (131072, 1 << 20))
    assert short.value == 32 * 16 * 256 * 512 * 4 and long == short
    with pytest.raises(ValueError, match="at least 1 token; it is 0"):
        costs_retention.chunk_cost(0)
