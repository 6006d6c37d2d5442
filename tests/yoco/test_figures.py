"""YOCO's figures: their numbers are those of the cost model and of the recordings, and every state can be read."""

import itertools

import pytest

from effattn_core import costs
from effattn_core.yoco import costs as prices
from figures import codec, explore, theme
from figures.yoco import model as draw
from figures.yoco import trained

GRIDS = {
    "layers": (
        draw.layers,
        draw.layers_says,
        dict(architecture=prices.ARCHITECTURES, context=draw.CONTEXTS[::2], size=["3B", "65B"]),
    ),
    "early-exit": (draw.early_exit, draw.early_exit_says, dict(early=[True, False])),
    "memory": (draw.memory, draw.memory_says, dict(size=list(prices.SIZES), context=draw.CONTEXTS)),
    "prefill": (draw.prefill, draw.prefill_says, dict(size=list(prices.SIZES), context=draw.CONTEXTS)),
}
ROWS = [
    dict(name=name, tokens=64, depth=depth, found=share + 0.1 * seed)
    for name, share in (("Transformer", 0.8), ("window alone", 0.1))
    for depth in (0.0, 0.5)
    for seed in (0, 1)
]


def texts(figure):
    return [note.text for note in figure.layout.annotations]


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_told_and_drawn_differently_and_fits_its_budget(name):
    build, says, grid = GRIDS[name]
    html = explore.explore(build, name=name, caption="c", alt=says, **grid).html
    assert len(html.encode()) < 250_000
    for parameter, values in grid.items():
        told = {says(**{parameter: value}) for value in values}
        assert len(told) == len({build(**{parameter: value}).to_json() for value in values}) == len(values), parameter
        assert all(sentence.endswith(".") and not sentence[0].islower() for sentence in told)


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_is_smaller_than_the_smallest_type_and_colours_are_the_themes(name):
    build, _, grid = GRIDS[name]
    allowed = {*theme.ROLES, *theme.CLASSES.values(), "rgba(0,0,0,0)"}
    for state in itertools.islice(itertools.product(*grid.values()), 0, None, 7):
        plain = codec.plain(build(**dict(zip(grid, state, strict=True))))
        for trace in plain["data"]:
            marker = trace.get("marker", {})
            assert not isinstance(marker.get("color"), str) or marker["color"] in allowed
        sizes = [note.get("font", {}).get("size", theme.NORMAL) for note in plain["layout"].get("annotations", [])]
        assert all(size >= theme.SMALL for size in sizes)


@pytest.mark.parametrize("architecture", prices.ARCHITECTURES)
def test_the_bars_of_the_layers_are_the_bytes_that_they_keep(architecture):
    drawn = draw.layers(architecture, 65536)
    bars = {layer: size for trace in drawn.data for layer, size in zip(trace.y, trace.x, strict=True)}
    model = prices.YOCO_3B
    wanted = {layer: prices.layer_kept(model, 65536, architecture, layer)[1] for layer in range(model.layers)}
    assert bars == {layer: size for layer, size in wanted.items() if size}
    total = prices.kept(model, 65536, architecture).total
    assert sum(bars.values()) == total and costs.format_bytes(total) in "".join(texts(drawn))


def test_early_exit_leaves_out_all_of_the_upper_half_but_one_column():
    cells = draw.early_exit(True, tokens=10, depth=6).data[0].z
    assert [list(row) for row in cells[4:]] == [[0] * 9 + [3]] * 3
    assert [list(row) for row in cells[:3]] == [[1] * 10] * 3
    assert "27" in texts(draw.early_exit(True, tokens=10, depth=6))[0]
    assert all(0 not in row for row in draw.early_exit(False).data[0].z)


def test_the_curves_are_the_cost_model_and_the_diamonds_the_papers_3b_only():
    for build, amount in (
        (draw.memory, lambda context, name: prices.memory(prices.YOCO_3B, context, name)),
        (draw.prefill, lambda c, name: prices.seconds(prices.YOCO_3B, c, name, costs.HARDWARE[draw.PEAK])),
    ):
        *lines, paper = build("3B").data
        for trace, name in zip(lines, draw.LOOKS, strict=True):
            assert list(trace.y) == [amount(context, name) for context in draw.CONTEXTS]
        assert len(paper.x) == 2 and list(build("7B").data[-1].x) == [None]
    assert list(draw.memory("3B").data[-1].y) == [12.4e9, 9.4 * 12.4e9]


def test_seconds_are_written_to_be_read():
    assert [draw.format_seconds(each) for each in (0.0123, 3.44, 200)] == ["12 ms", "3.4 s", "3.3 min"]


def test_the_gates_are_drawn_as_half_lives():
    import math

    gates = [[-math.log(2) / life for life in (1, 8, 64)]] * 2
    drawn = trained.gates("a b", gates, head=1)
    bar = drawn.data[0]
    assert [bar.base + height for height in bar.y] == pytest.approx([0, 3, 6])
    assert drawn.layout.meta["narrow"] == {"xaxis.tickvals": [0, 2], "xaxis.ticktext": ["a", "b"]}
    told = trained.gates_says("a b", gates)
    assert "from 1 letters at 'a', letter 1, to 64 at 'b', letter 3" in told
    with pytest.raises(ValueError, match="got 2 letters and 3 gates"):
        trained.gates("ab", gates)


def test_the_needles_are_drawn_as_means_with_the_spread_of_seeds():
    line = trained.needles(ROWS, 64).data[0]
    assert line.name == "Transformer" and list(line.y) == pytest.approx([0.85, 0.85])
    assert list(line.error_y.array) == pytest.approx([0.05, 0.05])
    assert "Transformer 85% (from 80% to 90%); window alone 15%" in trained.needles_says(ROWS, 64)
    with pytest.raises(ValueError, match="needs a row of 99 tokens"):
        trained.needles(ROWS, 99)
