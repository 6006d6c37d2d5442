"""The formulas of speculation are what runs: weights of real modules, the published table, and an optimum by search."""

import math

import pytest
import torch

from effattn_core import bill
from effattn_core import costs as shared
from effattn_core.model import build, configuration
from effattn_core.speculation import Extrapolator, Head, costs, most_frequent


def test_the_bytes_of_the_head_are_those_of_the_rows_that_a_drafter_keeps():
    model = build(configuration("tiny", 100))
    sizes = shared.Model("tiny", 2, 64, 4, 2, 16, 176, 100, "this test")
    for kept in (None, 30):
        subset = None if kept is None else most_frequent(torch.arange(100), kept, always=(2,))
        assert Head(model.head.weight, subset).weight.nbytes == costs.head_bytes(sizes, kept, dtype="float32")
    assert costs.head_bytes(sizes, 30, steps=4) == 4 * 30 * 64 * 2
    weights = sum(each.numel() for each in Extrapolator(model.sizes).parameters() if each.ndim == 2)
    assert costs.drafter_parameters(sizes, 30) == weights + 30 * 64
    with pytest.raises(ValueError, match="kept must lie in 1..100; it is 101"):
        costs.head_bytes(sizes, 101)


def test_the_head_is_most_of_a_one_layer_drafter():
    assert costs.head_share(shared.LLAMA_8B) == pytest.approx(0.676, abs=0.001)  # as the sheet has it
    assert costs.head_share(shared.LLAMA_8B, 32768) == pytest.approx(0.348, abs=0.001)
    assert costs.head_share(shared.SMOLLM2) > 0.85


def test_the_published_table_is_a_line_in_its_cycles_and_peaks_inside():
    fixed, slope = costs.line(costs.PUBLISHED)
    assert 1e3 * fixed == pytest.approx(16.65, abs=0.05) and 1e6 * slope == pytest.approx(0.0383, abs=0.001)
    for row in costs.PUBLISHED:
        assert fixed + slope * row["kept"] == pytest.approx(row["length"] / row["speed"], abs=2.5e-4)
    assert costs.kept_with_most(costs.PUBLISHED) == 32768 and costs.interior(costs.PUBLISHED)
    assert not costs.interior(costs.PUBLISHED, "length")


CYCLE = costs.Cycle(block=0.004, word=4e-7, passes=((1, 0.06), (2, 0.08), (4, 0.1), (8, 0.12)), other=0.001)


def test_a_cycle_adds_its_parts_and_its_best_is_found_by_search():
    assert CYCLE.verify(1) == 0.06 and CYCLE.verify(3) == pytest.approx(0.09) and CYCLE.verify(8) == 0.12
    assert CYCLE.seconds(10_000, 0) == 0.06
    assert CYCLE.seconds(10_000, 3) == pytest.approx(3 * (0.004 + 0.004) + 0.1 + 0.001)
    rates = {2_000: 0.4, 10_000: 0.6, 50_000: 0.62}
    speed, kept, length = CYCLE.best(rates, range(8))
    every = [(CYCLE.speed(rates[k], k, n), k, n) for k in rates for n in range(8)]
    assert (speed, kept, length) == max(every) and kept == 10_000 and 0 < length < 7
    with pytest.raises(ValueError, match="passes are known of 1..8 rows; 9 were asked"):
        CYCLE.verify(9)


def test_a_recorded_cycle_is_what_was_recorded():
    spread = dict(lower_quartile=0.0, upper_quartile=1.0)
    rows = [dict(what="pass", products=name, rows=n, median=scale * (0.05 + 0.01 * n)) | spread
            for name, scale in (("usual", 2.0), ("few rows", 1.0)) for n in (1, 4, 8)]  # fmt: skip
    rows += [dict(what="step", part="block", kept=None, median=0.003)]
    rows += [dict(what="step", part="head", kept=kept, median=0.001 + 2e-7 * kept) for kept in (1000, 5000, 40000)]
    cycle = costs.Cycle.recorded(rows)
    assert cycle.verify(4) == pytest.approx(0.09) and cycle.verify(2) == pytest.approx(0.07)
    assert cycle.seconds(10_000, 3) == pytest.approx(3 * (0.003 + 0.001 + 0.002) + 0.09)


@pytest.mark.parametrize(("rate", "price"), [(0.8, 0.1), (0.6, 0.05), (0.3, 0.4), (0.9, 0.0)])
def test_the_best_length_is_where_one_more_draft_no_longer_pays(rate, price):
    best = costs.best_length(rate, price)
    assert costs.speed_up(rate, price, best) >= max(costs.speed_up(rate, price, n) for n in range(65))
    assert (best == 0) == (rate <= price)
    assert math.isclose(costs.speed_up(rate, price, 0), 1.0)


def test_the_bill_s_stage_is_the_published_cycle():
    lines, before = bill.lines("speculation"), bill.lines("attention")
    moved = {key for key in lines if lines[key].value != before[key].value}
    assert moved == {"prefill", "weights", "cache", "decode", "head"}
    more = before["prefill"].value / 32  # a block of 32, and the matrix that joins hidden state and word
    assert more < lines["prefill"].value - before["prefill"].value < 1.3 * more
    head = before["head"].value + 6 * 32768 * 4096 * 2
    assert lines["head"].value == math.ceil(head / 3.63)
    assert bill.lowers(costs.STAGE, "head") and bill.lowers(costs.STAGE, "decode")
    assert lines["decode"].value < before["decode"].value / 2
