"""The figures of retention and of measurements: their numbers are the library's, and every state can be read by all."""

import functools
import itertools
import json
import math

import numpy as np
import pytest
import torch
from support.house import ROOT
from support.legible import check_legible, notes

from effattn_core import costs, data, retention
from effattn_core.measurements import CONTEXT, STEPS
from effattn_core.recordings import MEASUREMENTS
from effattn_core.retention import costs as prices
from figures import explore, measured
from figures.retention import forms as draw
from figures.retention import heads as looking
from figures.retention import numerics as numbers
from kernels.retention.configurations import CHUNK

# The grids of the chapter: name -> (builder, its sentence, the parameters).
GRIDS = {
    "mask": (draw.mask, draw.mask_says, dict(decay=draw.DECAYS, schedule=["code", "paper"])),
    "memory": (draw.memory, draw.memory_says, dict(head=range(8), read=draw.READ)),
    "chunk-diagram": (draw.chunk_diagram, draw.chunk_diagram_says, dict(chunk=[1, 2, 4, 6, 8, 16])),
    "chunk-split": (draw.chunk_split, draw.chunk_split_says, dict(chunk=prices.CHUNKS, head_dim=[64, 128, 256])),
    "rounded-decays": (
        numbers.rounded_decays, numbers.rounded_decays_says,
        dict(dtype=numbers.DTYPES, schedule=["code", "paper"], heads=[8, 16]),
    ),
    "factors": (
        numbers.factors, numbers.factors_says,
        dict(head=range(8), dtype=["float16", "bfloat16"], chunk=[16, 64, 256]),
    ),
    "state-size": (
        numbers.state_size, numbers.state_size_says,
        dict(head=range(8), dtype=numbers.DTYPES, scaled=[False, True]),
    ),
    "looks": (looking.looks, looking.looks_says, dict(layer=looking.LAYERS)),
}  # fmt: skip
ROWS = [
    dict(name=name, tokens=tokens, median=cost, lower_quartile=0.9 * cost, upper_quartile=1.2 * cost, repeats=9)
    for name, slope in (("carried state", 0.0), ("over a cache", 1e-6))
    for tokens in (16384, 1024)
    for cost in [1e-4 + slope * tokens]
]
HISTORIES = {"Transformer": [4 - step / 100 for step in range(200)], "retention": [3.5] * 120}


@pytest.fixture(scope="module")
def made():
    """name -> (its HTML, the figure of every state in it)."""

    def drawn(name, build, says, grid):
        figures = []

        @functools.wraps(build)
        def keep(**state):
            figures.append(build(**state))
            return figures[-1]

        return explore.explore(keep, name=name, caption="c", alt=says, **grid).html, figures

    return {name: drawn(name, *grid) for name, grid in GRIDS.items()}


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_drawn_and_legible(made, name):
    _, figures = made[name]
    assert len(figures) == math.prod(len(values) for values in GRIDS[name][2].values())
    for figure in figures:
        check_legible(figure)


def test_the_figures_stay_in_their_budgets(made):
    sizes = {name: len(html.encode()) for name, (html, _) in made.items()}
    print(", ".join(f"{name} {size / 1000:.0f} KB" for name, size in sizes.items()))
    assert max(sizes.values()) < 250_000 and sum(sizes.values()) < 600_000, sizes


@pytest.mark.parametrize("name", GRIDS)
def test_every_parameter_changes_what_is_said_and_what_is_drawn(name):
    build, says, grid = GRIDS[name]
    for parameter, values in grid.items():
        told = {says(**{parameter: value}) for value in values}
        drawn = {build(**{parameter: value}).to_json() for value in values}
        assert len(drawn) == len(values), parameter
        assert len(told) == len(values), (parameter, told)
        assert all(sentence.endswith(".") and not sentence[0].islower() for sentence in told)


def curves(figure):
    return {trace.name: trace for trace in figure.data if trace.name}


def test_the_slider_of_decays_holds_those_of_the_code():
    assert draw.DECAYS[4:12] == tuple(retention.decay_schedule(8).tolist())
    for schedule in ("code", "paper"):
        assert draw.schedule_of(schedule) == tuple(retention.decay_schedule(8, schedule).tolist())


@pytest.mark.parametrize("decay", draw.DECAYS)
def test_the_mask_that_is_drawn_is_the_mask_of_retention(decay):
    wanted = retention.decay_mask(torch.tensor([decay]), 6)[0]
    figure = draw.mask(decay)
    drawn = torch.tensor([[0.0 if entry is None else entry for entry in row] for row in figure.data[0].z])
    assert torch.allclose(drawn, wanted, atol=1e-6)
    written = {(note.y, note.x): note.text for note in figure.layout.annotations if note.xref is None}
    assert set(written) == {(n, m) for n in range(6) for m in range(n + 1)}
    for (n, m), text in written.items():
        assert abs(float(text) - wanted[n, m].item()) < 0.6 * 10.0 ** -len(text.partition(".")[2])
        assert (text == "1") == (n == m or decay == 1)
    assert np.allclose(figure.data[3].y, [decay**step for step in draw.STEPS])


def test_half_lives_are_those_of_retention_in_words():
    heads = [draw.half_life_words(decay) for decay in retention.decay_schedule(8).tolist()]
    assert heads == [
        f"half-life {tokens} tokens" for tokens in ("22", "44", "88", "177", "355", "709", "1,419", "2,839")
    ]
    assert draw.half_life_words(0.5) == "half-life 1 token" and draw.half_life_words(1.0) == "never fades"
    assert "half-life 22 tokens" in notes(draw.mask())[1] and "half-life 22 tokens" in draw.mask_says()
    assert "weight 0.85;" in draw.mask_says(), "six tokens hardly fade"
    ringed = draw.mask(31 / 32).data[2].marker.size
    assert ringed[0] > draw.mask(31 / 32).data[4].marker.size > ringed[1], "the ring leaves the number of its head free"
    assert "no head" in draw.mask_says(0.5) and "head 7 of the default schedule" in draw.mask_says(draw.DECAYS[-2])
    assert draw.mask(31 / 32).data[4].visible and not draw.mask(1023 / 1024).data[4].visible


def test_the_passage_is_in_the_plays():
    assert draw.PASSAGE in data.shakespeare()
    assert draw.READ[-1] == len(draw.PASSAGE)


@pytest.mark.parametrize(("head", "read"), list(itertools.product((0, 2, 7), (1, 72, 216))))
def test_a_memory_is_the_last_row_of_the_mask_letter_by_letter(head, read):
    figure = draw.memory(head, read)
    weights = retention.decay_mask(retention.decay_schedule(8).double(), read)[head, -1]
    bars = [
        (-base, x, height)
        for trace in figure.data[:3]
        for x, base, height in zip(trace.x, trace.base, trace.y, strict=True)
    ]
    assert torch.allclose(2 * torch.tensor([height for *_, height in sorted(bars)]).double(), weights)
    for trace, (low, high) in zip(figure.data[:3], ((0.5, 1.01), (0.1, 0.5), (0, 0.1)), strict=True):
        assert all(low <= weight < high for weight in trace.customdata)
    letters = sorted(zip((-each for each in figure.data[3].y), figure.data[3].x, figure.data[3].text, strict=True))
    assert "".join(letter for *_, letter in letters) == draw.PASSAGE[:read].replace("\n", " ")
    half = int((weights >= 0.5).sum())
    told = draw.memory_says(head, read)
    assert (f"the last {half} of {read}" if half < read else f"all {read}") in told
    assert len(figure.layout.shapes) == (half < read) + int((weights < 0.1).any())
    with pytest.raises(ValueError, match=r"read must lie in 1\.\.216; it is 217"):
        draw.memory(head, 217)


@pytest.mark.parametrize("chunk", [1, 2, 4, 6, 8, 16, 40])
def test_the_diagram_shows_what_the_chunkwise_form_computes_and_what_its_state_carries(chunk):
    """Values that are the unit vectors make each output the row of tokens that it saw."""
    ones, decay = torch.ones(1, 1, 16, 1, dtype=torch.float64), torch.tensor([0.9])
    unit = torch.eye(16, dtype=torch.float64)[None, None]
    seen = retention.chunkwise(ones, ones, unit, decay, scale=1.0, chunk_size=chunk)[0][0, 0] > 0
    alone = [
        retention.chunkwise(*(each[:, :, first : first + chunk] for each in (ones, ones, unit)), decay, scale=1.0)[0]
        for first in range(0, 16, chunk)
    ]
    inside = torch.cat(alone, 2)[0, 0] > 0
    figure = draw.chunk_diagram(chunk)
    kinds = torch.tensor(figure.data[0].z)
    assert torch.equal(kinds == 1, inside) and torch.equal(kinds == 3, seen & ~inside)
    assert int((kinds > 0).sum() - (kinds == 3).sum()) == sum(
        min(chunk, 16 - first) ** 2 for first in range(0, 16, chunk)
    )
    assert f"<b>{int((kinds == 3).sum())}</b> through the state" in notes(figure)[0]
    assert f"{int(inside.sum())} pairs" in draw.chunk_diagram_says(chunk)


def test_the_ends_of_the_diagram_are_the_other_forms_and_a_ragged_rest_is_named():
    assert "16 chunks of 1: the recurrent form" in draw.chunk_diagram_says(1)
    assert "1 chunk of 16: the parallel form" in draw.chunk_diagram_says(16)
    assert "3 chunks of 6, the last of 4" in draw.chunk_diagram_says(6)
    with pytest.raises(ValueError, match="chunk must be at least 1 token; it is 0"):
        draw.chunk_diagram(0)


@pytest.mark.parametrize(("chunk", "head_dim"), list(itertools.product((8, 128, 1024), (64, 256))))
def test_the_split_writes_the_numbers_of_costs(chunk, head_dim):
    figure, price = draw.chunk_split(chunk, head_dim), prices.chunk_cost(chunk, head_dim, head_dim)
    text = " ".join(notes(figure))
    states = 2 * 4 * head_dim * head_dim / chunk
    for words in (
        f"inside <b>{costs.format_flops(price.inner)}", f"state <b>{costs.format_flops(price.state)}",
        f"tokens <b>{costs.format_bytes(price.moved - states)}", f"states <b>{costs.format_bytes(states)}",
    ):  # fmt: skip
        assert words in text
    assert "not a measurement" in text
    hardware = costs.HARDWARE["H100 SXM"]
    each = [prices.chunk_cost(size, head_dim, head_dim) for size in prices.CHUNKS]
    lines = curves(figure)
    assert np.allclose(lines["the longer"].y, [1e9 * price.seconds(hardware) for price in each])
    assert np.allclose(lines["the longer"].y, np.maximum(lines["computing"].y, lines["moving"].y))
    assert np.allclose(lines["moving"].y, [1e9 * price.moved / hardware.bandwidth for price in each])
    assert len({line.line.dash for line in lines.values()}) == 3
    best = prices.best_chunk(hardware, head_dim, head_dim)
    star, ring = figure.data[-2:]
    assert star.x == (best,) and star.y[0] == min(lines["the longer"].y) and ring.x == (chunk,)
    assert f"least at {best}" in text
    told = draw.chunk_split_says(best, head_dim)
    assert "the least of all sizes" in told and "the least is" in draw.chunk_split_says(8, head_dim)


def test_decays_round_to_one_from_the_fifth_head_in_bfloat16_and_in_the_last_in_float16():
    for dtype, first in (("bfloat16", 4), ("float16", 7), ("float32", 8)):
        kind = getattr(torch, dtype)
        rounds = [torch.tensor(1 - 2.0 ** (-5 - head), dtype=kind).item() == 1 for head in range(8)]
        assert rounds == [head >= first for head in range(8)]
        stored = numbers.rounded_decays(dtype).data[2]
        assert [symbol == "triangle-up" for symbol in stored.marker.symbol] == rounds
        top = max(stored.y) if any(rounds) else None
        for head, y in enumerate(stored.y):
            wanted = top if rounds[head] else float(retention.half_life(retention.decay_schedule(8)[head].to(kind)))
            assert math.isclose(y, wanted, rel_tol=1e-6)
    assert "heads 4 to 7 round to 1" in numbers.rounded_decays_says()
    assert "head 7 rounds to 1" in numbers.rounded_decays_says("float16")
    assert "keep their half-lives" in numbers.rounded_decays_says("float32")
    assert "heads 4 and 6 fade just like the head before" in numbers.rounded_decays_says("bfloat16", "paper")


@pytest.mark.parametrize(("head", "dtype"), list(itertools.product((0, 3, 7), ("float16", "bfloat16"))))
def test_the_growing_factor_ends_where_the_number_format_does(head, dtype):
    kind, decay = getattr(torch, dtype), draw.schedule_of("code")[head]
    figure = numbers.factors(head, dtype, 64)
    growing, cross, shrinking, other, chunked = figure.data
    told = numbers.factors_says(head, dtype, 64)
    for trace, mark, sign, word in ((growing, cross, -1, "infinite from"), (shrinking, other, 1, "nought from")):
        last = trace.x[-1]
        if not mark.visible:
            assert last == numbers.LONGEST and word not in told
            continue
        here, next_ = (
            torch.tensor(sign * n * math.log(decay)).double().exp().to(kind).item() for n in (last, last + 1)
        )
        assert 0 < here < math.inf and next_ in (0, math.inf), "the cross stands on the last number that there is"
        assert f"{word} {last + 1:,}" in told
    assert max(chunked.y) <= 1 and math.isclose(min(chunked.y), decay**64, rel_tol=0.01)


def test_a_state_in_sixteen_bits_stops_growing_and_scaling_does_not_mend_it():
    decay, places = draw.schedule_of("code")[7], numbers.STEPS
    exact = (1 - decay**places) / (1 - decay)
    for scaled in (False, True):
        wanted = math.sqrt(exact) if scaled else exact
        ends = {}
        for dtype in numbers.DTYPES:
            lines = curves(numbers.state_size(7, dtype, scaled))
            assert math.isclose(lines["exact"].y[-1], wanted, rel_tol=1e-9)
            ends[dtype] = lines[f"head 7, kept in {dtype}"].y[-1] / wanted
        assert 0.999 < ends["float32"] < 1.001 and ends["float16"] < 0.7 and ends["bfloat16"] < 0.3
    # Between 256 and 512 the numbers of bfloat16 lie 2 apart: 256 · decay + 1 rounds back to 256.
    assert curves(numbers.state_size(7))["head 7, kept in bfloat16"].y[-1] == 256
    assert "93% of it is lost to rounding" in numbers.state_size_says()
    assert "nothing of note" in numbers.state_size_says(7, "float32")


def test_growth_draws_every_row_in_its_unit_with_its_spread():
    figure = measured.growth(ROWS, "milliseconds a token", scale=1e3)
    check_legible(figure)
    for trace in figure.data:
        rows = sorted((row for row in ROWS if row["name"] == trace.name), key=lambda row: row["tokens"])
        assert list(trace.x) == [1024, 16384] and np.allclose(trace.y, [1e3 * row["median"] for row in rows])
        assert np.allclose(trace.error_y.array, 0.2 * np.array(trace.y))
        assert np.allclose(trace.error_y.arrayminus, 0.1 * np.array(trace.y))
    assert len({trace.line.dash for trace in figure.data}) == len({trace.marker.symbol for trace in figure.data}) == 2
    assert figure.layout.yaxis.title.text == "milliseconds a token" and figure.layout.yaxis.type == "log"
    assert measured.growth_says(ROWS, "milliseconds a token", scale=1e3) == (
        "Milliseconds a token: carried state from 0.1 at 1K tokens to 0.1 at 16K tokens, as much; "
        "over a cache from 1.12 at 1K tokens to 16.5 at 16K tokens, 15 times as much."
    )


def test_losses_are_running_means_whose_length_is_stated():
    figure = measured.losses(HISTORIES)
    check_legible(figure)
    first, second = figure.data
    assert len(first.y) == 200 and len(second.y) == 120 and first.line.dash != second.line.dash
    assert np.isclose(first.y[0], 4) and np.isclose(first.y[-1], np.mean(HISTORIES["Transformer"][-5:]))
    assert "mean of 5 steps" in figure.layout.xaxis.title.text
    assert "mean of the last 5 steps: Transformer 2.03 after 200 steps; retention 3.50 after 120 steps" in (
        measured.losses_says(HISTORIES)
    )


def test_a_recorded_curve_is_drawn_as_it_is_at_the_steps_that_it_averages():
    figure = measured.losses({"RetNet": [3.0, 2.5, 2.25]}, every=20)
    check_legible(figure)
    assert list(figure.data[0].x) == [20, 40, 60] and list(figure.data[0].y) == [3.0, 2.5, 2.25]
    assert "the mean of 20 steps" in figure.layout.xaxis.title.text
    assert "mean of the last 20 steps: RetNet 2.25 after 60 steps" in measured.losses_says(
        {"RetNet": [3, 2.25, 2.25]}, every=20
    )


def test_a_median_that_its_spread_spoils_is_neither_drawn_nor_printed():
    row = ROWS[0] | dict(what="forward")
    assert math.isclose(measured.spread(row), 0.3)
    busy = row | dict(upper_quartile=14 * row["median"])
    for draw_it in (measured.spread, lambda row: measured.growth([row], "seconds")):
        with pytest.raises(
            ValueError, match="forward, carried state at 16,384 tokens spreads over 1310% .* measure it"
        ):
            draw_it(busy)


def test_no_recording_of_the_book_has_a_median_that_its_spread_spoils():
    recordings = sorted(MEASUREMENTS.glob("*/*.json"))
    rows = [row for path in recordings for row in json.loads(path.read_text())["rows"] if "upper_quartile" in row]
    assert len(rows) > 50
    for row in rows:
        measured.spread({"tokens": 0} | row)


def test_measurements_that_cannot_be_drawn_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="at least one row"):
        measured.growth([], "seconds")
    with pytest.raises(ValueError, match="each row needs 'median'; one has name, tokens"):
        measured.growth([dict(name="a", tokens=1)], "seconds")
    with pytest.raises(ValueError, match="1 to 6 names can be told apart; got 7"):
        measured.losses({str(name): [1.0] for name in range(7)})
    with pytest.raises(ValueError, match="a loss of each"):
        measured.losses({"a": []})


def test_the_numbers_that_the_chapter_writes_in_words_are_the_library_s():
    text = " ".join((ROOT / "book" / "2-retention" / "retention.md").read_text().split()).replace('" "', "")
    lives = {decay: float(retention.half_life(decay)) for decay in (3 / 4, 31 / 32, 63 / 64)}
    wasted = {chunk: int((draw._pairs(chunk, 16) == 2).sum()) for chunk in (4, 8, 16)}
    chunks = {head_dim: CHUNK[2, head_dim] for head_dim in (64, 128)}
    for said in (
        f"with 0.75 half is gone after {lives[3 / 4]:.1f} tokens",
        f"31/32, needs {lives[31 / 32]:.0f}",
        f"$\\gamma = 31/32$ has a half-life of about {lives[31 / 32]:.0f} tokens",
        f"About {lives[63 / 64]:.0f} tokens",
        f"in chunks of 4 waste {wasted[4]} pairs",
        f"3. {wasted[8]} A chunk",
        f"a whole chunk of 16 wastes {wasted[16]}",
        f"chunks of {chunks[64]} tokens for heads of 64, and of {chunks[128]} for heads of 128",
        f"trained on windows of {CONTEXT} letters",
        f"no help for long texts, and {STEPS} steps",
    ):
        assert said in text, said
