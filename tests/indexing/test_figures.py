"""Figures of the chapter on one shared index: their numbers are those of the costs and the recordings."""

import itertools
import json

import pytest
import torch
import triton
import triton.language as tl
from support.house import ROOT

from effattn_core.indexing import costs as prices
from effattn_core.indexing import scores_oracle
from effattn_core.ledger import ledger
from figures import codec, explore, theme
from figures.indexing import forms as draw
from figures.indexing import network, tables, trained
from kernels.indexing.select import exchange

# The table that the miniature follows, found by another program before this one was written: coverage by agreement,
# in the order of CHOICES.
NOTED = {
    1.0: (0.997, 0.997, 0.996, 0.997, 0.06),
    0.8: (0.987, 0.983, 0.979, 0.976, 0.06),
    0.5: (0.963, 0.888, 0.716, 0.653, 0.06),
    0.0: (0.991, 0.876, 0.315, 0.301, 0.06),
}
GRIDS = {
    "picks": (draw.picks, draw.picks_says, dict(agreement=draw.SHOWN_AGREEMENTS, shared=[True, False])),
    "covered": (draw.covered, draw.covered_says, dict(agreement=draw.agreements())),
    "cost": (draw.cost, draw.cost_says, dict(context=draw.CONTEXTS, running=[True, False])),
    "text": (draw.text, draw.text_says, dict(stage=["indexer alone", "joint"])),
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_told_and_drawn_differently_and_fits_its_budget(name):
    build, says, grid = GRIDS[name]
    html = explore.explore(build, name=name, caption="c", alt=says, **grid).html
    assert len(html.encode()) < 250_000
    for parameter, values in grid.items():
        told = {says(**{parameter: value}) for value in values}
        assert len(told) == len({build(**{parameter: value}).to_json() for value in values}) == len(values), parameter
        assert all(sentence.endswith(".") and not sentence[0].islower() for sentence in told)
    for state in itertools.product(*grid.values()):
        plain = codec.plain(build(**dict(zip(grid, state, strict=True))))
        sizes = [note.get("font", {}).get("size", theme.NORMAL) for note in plain["layout"].get("annotations", [])]
        assert all(size >= theme.SMALL for size in sizes)


def test_the_merge_that_is_drawn_gives_the_best_four_in_order():
    lists, tile, larger, *swaps = (numbers for _, numbers, _ in draw.MERGE)
    assert list(lists) == sorted(lists, reverse=True) and list(tile) == sorted(tile)
    assert larger == tuple(map(max, zip(lists, tile, strict=True)))
    now = list(larger)
    for (_, numbers, pairs), swapped in zip(draw.MERGE[3:], swaps, strict=True):
        for left, right in pairs:
            now[left], now[right] = max(now[left], now[right]), min(now[left], now[right])
        assert now == list(numbers) == list(swapped)
    assert now == sorted((*lists, *tile), reverse=True)[:4]
    assert "9 8 7 6" in draw.merge_of_lists_says() and len(draw.merge_of_lists().data) == 3


@pytest.mark.parametrize("length", [1, 2, 8, 16])
def test_the_network_sorts_every_sequence_of_zeros_and_ones_and_so_all(length):
    """The zero-one principle: a network that sorts all zeros and ones sorts any numbers."""
    for bits in itertools.product((0, 1), repeat=length) if length < 16 else [[*range(8), *range(8)][::-1]]:
        assert network.states(bits)[-1] == sorted(bits)
    power = length.bit_length() - 1
    assert len(list(network.network(length))) == power * (power + 1) // 2
    assert all(len(pairs) == length // 2 for _, pairs in network.network(length))


@triton.jit
def column_kernel(
    pointer, out_pointer, LENGTH: tl.constexpr, POWER: tl.constexpr, STAGE: tl.constexpr, STEP: tl.constexpr
):
    """One column of `bitonic_sort`."""
    entries = tl.load(pointer + tl.arange(0, LENGTH))
    runs = tl.arange(0, LENGTH >> (STAGE - STEP))
    descending = ((runs >> STEP) & 1) == 1 if STAGE < POWER else runs < 0
    entries = exchange(entries, descending[:, None, None], LENGTH, 1 << (STAGE - STEP - 1))
    tl.store(out_pointer + tl.arange(0, LENGTH), entries)


def test_the_network_that_is_drawn_is_the_kernels():
    """Column by column: the kernel's exchange gives what the drawing says."""
    drawn = network.states(network.NUMBERS)
    steps = [(stage, step) for stage in range(1, 4) for step in range(stage)]
    for (before, after), (stage, step) in zip(itertools.pairwise(drawn), steps, strict=True):
        found = torch.empty(8, dtype=torch.int64)
        column_kernel[(1,)](torch.tensor(before), found, 8, 3, stage, step)
        assert found.tolist() == after
    assert sorted(network.NUMBERS) == sorted((*draw.MERGE[0][1], *draw.MERGE[1][1]))


def test_the_network_is_drawn_with_each_number_on_its_wire_and_the_larger_at_the_diamond():
    figure = network.sorting()
    numbers = {
        (x, y): int(text) for trace in figure.data[:2] for x, y, text in zip(trace.x, trace.y, trace.text, strict=True)
    }
    assert numbers == {
        (column, wire): number
        for column, each in enumerate(network.states(network.NUMBERS))
        for wire, number in enumerate(each)
    }
    assert {text for trace in figure.data[:1] for text in trace.text} == {"6", "7", "8", "9"}
    for x, wire in zip(figure.data[2].x, figure.data[2].y, strict=True):
        line = next(each for each in figure.layout.shapes if each.x0 == x == each.x1 and wire in (each.y0, each.y1))
        other = line.y0 + line.y1 - wire
        assert numbers[int(x) + 1, wire] > numbers[int(x) + 1, other]
    assert network.sorting_says().endswith("after runs of 8: 1 2 3 4 6 7 8 9.")


def test_every_equivalence_of_the_page_is_inside_and_a_broken_form_is_not(monkeypatch):
    rows = tables.equivalences()
    assert len(rows) >= 7 and all(row["inside"] for row in rows) and tables.same_rows()
    right = tables.row_attention

    def dropped(query, key, value, rows, **settings):
        return right(query, key, value, torch.cat([rows[:, 1:], torch.full_like(rows[:, :1], -1)], 1), **settings)

    monkeypatch.setattr(tables, "row_attention", dropped)
    assert not all(row["inside"] for row in tables.equivalences())


def test_the_counted_bytes_are_those_of_the_formula():
    assert [what for what, *_ in tables.counted()] == [
        "routing keys, once", "rows, gathered once", "rows, in four layers"]  # fmt: skip
    assert all(seen == formula > 0 for _, seen, formula in tables.counted())


def test_the_tables_of_the_recorded_runs_are_whole():
    assert len(tables.added_rows()) == 2 * 5 and {row["stage"] for row in tables.added_rows()} == {
        "indexer alone", "both"}  # fmt: skip
    assert [row["way"] for row in tables.timed_rows()][:3] == ["dense", "one index per layer", "one index"]
    assert all(ratio == 1 for way, ratio in tables.timed_rows()[0].items() if way != "way")


def test_the_small_numbers_of_the_page_are_right():
    """Two heads and three tokens; two layers and the indexer that they teach; the answers of its predictions."""
    score = scores_oracle(torch.eye(2)[None, :, None], torch.tensor([[[[2, -3], [-1, 1], [0.5, 1]]]]),
                          torch.tensor([[[1], [0.5]]]))  # fmt: skip
    assert score[0, 0].tolist() == pytest.approx([1, 0.25, 0.5])
    attention = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    pull = 1 / 3 - attention
    assert attention.mean(0).tolist() == pytest.approx([0.5, 0.4, 0.1])
    assert pull.mean(0).tolist() == pytest.approx([-0.17, -0.07, 0.23], abs=0.005)
    assert pull[:, 0].tolist() == pytest.approx([-0.47, 0.13], abs=0.005)
    _, _, caught = draw._picked(0.0, True)
    assert 0.5 < sum(caught) / 6 < 0.7 and min(caught) < 0.5
    cost = {name: sum(trained.found("loss", name, 64)) for name in ("newest", "taught")}
    cover = {name: sum(trained.found("attention", name, 64)) / 3 for name in ("newest", "taught")}
    assert cost["newest"] > 2 * cost["taught"] and abs(cover["newest"] - cover["taught"]) < 0.05


def test_lines_of_coverage_pass_through_the_recorded_means():
    for trace, name in zip(draw.covered(0.5).data, draw.CHOICES, strict=True):
        assert list(trace.y) == [draw.caught_at(agreement, name)[0] for agreement in draw.agreements()]
        assert trace.name.endswith(f"{draw.caught_at(0.5, name)[0]:.1%}")


def test_one_list_reads_fewer_rows_and_lists_of_their_own_catch_more():
    for agreement in draw.SHOWN_AGREEMENTS:
        (_, own, best), (_, shared, caught) = (draw._picked(agreement, each) for each in (False, True))
        assert len({row for each in shared for row in each}) == draw.PICKED
        assert len({row for each in own for row in each}) >= draw.PICKED
        assert all(a >= b for a, b in zip(best, caught, strict=True))
    assert draw._picked(1.0, True) == draw._picked(1.0, False)


def test_the_bars_of_the_cost_are_its_bytes_and_both_selector_parts_are_shared():
    dense = prices.step(32768, 16, 4, 128, top_k=None).total
    scoring, top_k, attention = draw.cost(32768).data
    step = prices.step(32768, 16, 4, 128)
    assert list(attention.y) == [step.rows / dense] * 5
    assert [each * dense for each in scoring.y] == pytest.approx([16 * step.index / n for n in draw.SHARING])
    assert [each * dense for each in top_k.y] == pytest.approx([16 * 8 * 32768 / n for n in draw.SHARING])
    assert list(draw.cost(32768, True).data[1].y) == [0] * 5


def test_the_recorded_run_is_whole_and_the_order_of_the_table_holds():
    content = json.loads((ROOT / "book" / "measurements" / f"{draw.RUN}.json").read_text())
    assert "dirty" not in content["provenance"]["commit"]
    assert draw.agreements() == [0.0, 0.5, 0.65, 0.8, 1.0] and set(NOTED) <= set(draw.agreements())
    for agreement, noted in NOTED.items():
        ours = [draw.caught_at(agreement, name)[0] for name in draw.CHOICES]
        # The two oracles, which do not depend on training, lie near the table; the order holds for all.
        assert ours[:2] == pytest.approx(noted[:2], abs=0.02), agreement
        assert ours[0] >= ours[1] >= ours[2] > ours[4] and ours[4] == pytest.approx(noted[4], abs=0.01)
    assert {row["seed"] for row in content["rows"] if row["what"] == "agreement"} == {0, 1, 2}
    for stage in ("indexer alone", "joint"):
        rows = draw.text_rows(stage)
        assert [row["top_k"] for row in rows] == [4, 8, 16, 32, 64]
        for row in rows:
            means = {name: sum(each) / len(each) for name, each in row["coverage"].items()}
            assert means["per layer"] >= means["shared oracle"] >= means["trained shared"] > means["random"]
            assert all(row["same"][layer][layer] == 1 for layer in range(4))


def test_the_ledger_tells_every_claim_and_the_exact_one_holds():
    rows = ledger("indexing")
    assert len(rows) == 5 and next(row for row in rows if "divergence" in row["statement"])["verdict"] == "exact"
