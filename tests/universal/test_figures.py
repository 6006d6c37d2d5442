"""The figures of loops: their numbers are the library's and the recorded run's, and every state can be read by all."""

import dataclasses
import functools
import json
import math
from statistics import fmean

import pytest
from support.house import ROOT
from support.legible import check_legible, notes

from effattn_core import costs
from effattn_core.model import configuration
from effattn_core.universal import UniversalTransformer, UniversalYOCO, kept_tensors
from effattn_core.universal import costs as costs_universal
from figures import explore, theme
from figures import universal as draw

GRIDS = {
    "unrolled": (draw.unrolled, draw.unrolled_says, dict(loops=draw.LOOPS, model=draw.MODELS)),
    "prices": (draw.prices, draw.prices_says, dict(loops=draw.PRICED, context=draw.CONTEXTS)),
    "changes": (draw.changes, draw.changes_says, dict(trained=list(draw.TRAINED))),
}
RECORDED = json.loads((ROOT / "book" / "measurements" / f"{draw.RECORDED}.json").read_text())["rows"]


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_drawn_legible_and_within_its_budget(name):
    build, says, grid = GRIDS[name]
    figures = []

    @functools.wraps(build)
    def keep(**state):
        figures.append(build(**state))
        return figures[-1]

    html = explore.explore(keep, name=name, caption="c", alt=says, **grid).html
    assert len(figures) == math.prod(map(len, grid.values())) and len(html.encode()) < 150_000
    for figure in figures:
        check_legible(figure)


@pytest.mark.parametrize("name", GRIDS)
def test_every_parameter_changes_what_is_said_and_what_is_drawn(name):
    build, says, grid = GRIDS[name]
    for parameter, values in grid.items():
        told = {says(**{parameter: value}) for value in values}
        assert len(told) == len({build(**{parameter: value}).to_json() for value in values}) == len(values)
        assert all(sentence.endswith(".") for sentence in told)


@pytest.mark.parametrize("loops", draw.LOOPS)
@pytest.mark.parametrize("model", draw.MODELS)
def test_the_drawing_keeps_what_real_states_of_such_a_model_keep(model, loops):
    """Sixteen tokens, a window of four, one key head of one number: the rows of the tensors are the cells."""
    sizes = configuration("tiny", 7, layers=4, key_value_heads=1, head_dim=2, context=16, loops=loops)
    kind = UniversalTransformer
    if model == "YOCO-U":
        sizes, kind = dataclasses.replace(sizes, cross_layers=2, window=4), UniversalYOCO
    rows = [tensor.shape[2] for tensor in kept_tensors(kind(sizes).new_states())][::2]
    drawn = [sum(bool(cell) for cell in row) for row in draw.unrolled(loops, model).data[0].z]
    assert [each for each in drawn if each] == rows
    assert f"<b>{sum(rows)}</b> keys and values" in notes(draw.unrolled(loops, model))[0]
    assert f"{sum(rows)} keys and values." in draw.unrolled_says(loops, model)


def test_a_fourth_loop_adds_what_the_prediction_says():
    kept = [int(draw.unrolled_says(loops).split(": ")[1].split()[0]) for loops in (3, 4)]
    assert kept[1] - kept[0] == 8
    kept = [int(draw.unrolled_says(loops, "looped Transformer").split(": ")[1].split()[0]) for loops in (3, 4)]
    assert kept[1] - kept[0] == 2 * 32, "four layers; two of them keep 32"


@pytest.mark.parametrize("context", draw.CONTEXTS)
def test_prices_are_those_of_costs(context):
    for loops in (1, 4, 8):
        figure, text = draw.prices(loops, context), draw.prices_says(loops, context)
        for name in draw.MODELS:
            sizes = costs_universal.llama_sized(loops, context, shares=name == "YOCO-U")
            flops = costs.format_flops(costs_universal.decode_flops(sizes, context))
            kept = costs.format_bytes(costs_universal.kept(sizes).total)
            assert f"{name} {flops} per token and {kept} kept" in text
            written = notes(figure)
            assert flops in written[2] and kept in written[3]
    with pytest.raises(ValueError, match="model must be one of YOCO-U, looped Transformer; it is 'RNN'"):
        draw.unrolled(2, "RNN")


@pytest.mark.parametrize("trained", draw.TRAINED)
def test_changes_are_those_of_the_recorded_run(trained):
    name, loops = draw.TRAINED[trained]
    bars, line, ring = draw.changes(trained).data
    recorded = [
        row["changes"] for row in RECORDED if row["what"] == "changes" and (row["name"], row["loops"]) == (name, loops)
    ]
    assert list(bars.y) == pytest.approx([fmean(each) for each in zip(*recorded, strict=True)])
    assert [colour != draw.CLEAR for colour in bars.marker.color] == [number <= loops for number in range(1, 9)]
    for asked, loss in zip(line.x, line.y, strict=True):
        assert loss == pytest.approx(_mean_loss(name, loops, asked))
    assert ring.x == (loops,) and ring.y[0] == pytest.approx(_mean_loss(name, loops, loops))
    with pytest.raises(ValueError, match="trained must be one of 1 loop; 2 loops"):
        draw.changes("5 loops")


def _mean_loss(name, loops, asked):
    wanted = (name, loops, asked)
    return fmean(
        row["loss"] for row in RECORDED
        if row["what"] == "held out" and (row["name"], row["loops"], row["asked"]) == wanted
    )  # fmt: skip


def test_losses_stand_at_the_operations_of_their_training():
    figure, told = draw.against_compute(), draw.against_compute_says()
    check_legible(figure)
    points = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data}
    assert len(points["YOCO-U"]) == len(points["looped Transformer"]) == 4
    for number, (place, loss) in enumerate(points["YOCO-U"], 1):
        assert loss == pytest.approx(_mean_loss("YOCO-U", number, number))
        assert f"YOCO-U with {number} loop{'s' * (number > 1)} {loss:.3f}" in told
        row = next(row for row in RECORDED if row.get("name") == "YOCO-U" and row["loops"] == number and "flops" in row)
        assert place == pytest.approx(row["training_flops"] / 1e6)
    assert points["YOCO without loops"][0][0] == points["YOCO-U"][3][0]
    assert theme.SMALL >= 12


def test_the_chapter_says_hollow_where_the_bars_are_and_one_over_the_loop_where_they_shrink_so():
    text = (ROOT / "book" / "3-yoco" / "universal.md").read_text()
    assert "hollow are loops that training never" in text and "hatched" not in text
    _, change, _ = draw._of("4 loops")
    assert all(number * share == pytest.approx(1, abs=0.15) for number, share in enumerate(change, 1) if number > 1)
