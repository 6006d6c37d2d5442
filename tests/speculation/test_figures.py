"""The figures of speculation: their numbers are the library's, and every state is legible."""

import functools
import math

import pytest
import torch
from support.legible import check_legible, check_states

from effattn_core import speculation
from effattn_core.speculation import costs
from figures import explore
from figures.speculation import forms as draw
from figures.speculation import vocabulary as sizes

TREES = (
    dict(before="What say you to the", words=[" king", " man", " people", "'s", ",", "\n", " of", " and"],
         parents=[-1, -1, -1, 0, 0, 1, 1, 4], scores=[-0.5, -1.5, -2.0, -0.7, -1.2, -2.5, -3.0, -2.2], path=[0, 4],
         last=" my"),
    dict(before="What say you to the king, my", words=[" lord", " good", "?", "."], parents=[-1, -1, 0, 0],
         scores=[-0.5, -1.5, -2.0, -0.7], path=[], last=" dear"),
)  # fmt: skip
OURS = [dict(kept=49152 >> k, length=2.5 - 0.1 * k, speed=20 + 1.1 * k - 0.3 * k * k, coverage=1 - 0.03 * k)
        for k in range(5)]  # fmt: skip
SOURCES = costs.PUBLISHED, OURS
# The grids of the chapter: name -> (builder, its sentence, the parameters).
GRIDS = {
    "draft-tree": (
        functools.partial(draw.tree, TREES), functools.partial(draw.tree_says, TREES),
        dict(step=range(len(draw.stages(TREES)))),
    ),
    "law": (draw.law, draw.law_says, dict(kept=range(2, 7), drafter=list(draw.DRAFTERS))),
    "lengths": (draw.lengths, draw.lengths_says, dict(rate=draw.RATES, price=draw.PRICES)),
    "vocabulary": (
        functools.partial(sizes.trade, SOURCES), functools.partial(sizes.trade_says, SOURCES),
        dict(share=sizes.SHARES, head=sizes.HEADS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
def test_every_state_is_legible_and_says_something_of_its_own(name):
    build, says, grid = GRIDS[name]
    check_states(build, says, 420, **grid)


def test_the_figures_stay_in_their_budgets():
    sizes_of = {
        name: len(explore.explore(build, name=name, caption="c", alt=says, **grid).html.encode())
        for name, (build, says, grid) in GRIDS.items()
    }
    print(", ".join(f"{name} {size / 1000:.0f} KB" for name, size in sizes_of.items()))
    assert max(sizes_of.values()) < 200_000, sizes_of


def test_a_tree_grows_by_depth_and_the_path_that_won_is_marked():
    stages = draw.stages(TREES)
    assert stages == [(0, 1), (0, 2), (0, 3), (0, None), (1, 1), (1, 2), (1, None)]
    assert draw.verified(TREES) == 3 and draw.stage_words(TREES, 3) == "cycle 1, verified"
    counts = [len(draw.tree(TREES, step).layout.annotations) - 2 for step in range(3)]  # but for heading and root
    assert counts == [3, 7, 8]
    judged = draw.tree(TREES, 3)
    texts = {note.text: note.bgcolor for note in judged.layout.annotations}
    assert [text for text, fill in texts.items() if fill == draw.theme.BLUE] == ["<b>king</b>", "<b>,</b>"]
    assert [text for text, fill in texts.items() if fill == draw.theme.ORANGE] == ["<b>my</b>"]
    path = judged.data[1]
    assert list(path.x) == [0, 1, None, 1, 2, None]  # from the root to the king, from the king to the comma
    assert "⏎" in texts and "<b>…you to the</b>" in texts
    assert "takes 0 (none) and adds dear" in draw.tree_says(TREES, 6)
    grown = [note.text for note in draw.tree(TREES, 2).layout.annotations]
    assert f"king<br>{100 * math.exp(-0.5):.0f} %" in grown


@pytest.mark.parametrize("kept", range(1, 7))
@pytest.mark.parametrize("drafter", draw.DRAFTERS)
def test_every_bar_ends_at_the_target_s_law(kept, drafter):
    taken, replaced, marks, diamonds = draw.law(kept, drafter).data
    for word, (one, other) in enumerate(zip(taken.y, replaced.y, strict=True)):
        assert one + other == pytest.approx(draw.TARGET[word]) == pytest.approx(marks.y[word])
    target, draft = (torch.tensor(each, dtype=torch.float64) for each in (draw.TARGET, diamonds.y))
    assert sum(taken.y) == pytest.approx(speculation.acceptance(target, draft).item())
    assert sum(taken.y) <= sum(draw.TARGET[:kept]) + 1e-12  # eq. speculation-bound
    assert sum(diamonds.y) == pytest.approx(1) and not any(diamonds.y[kept:])


def test_the_chapter_s_example_and_its_prediction():
    taken, replaced, _, draft = draw.law(3, "a good drafter").data
    assert draft.y[:3] == pytest.approx((0.4375, 0.375, 0.1875))
    assert taken.y == pytest.approx((0.40, 0.25, 0.15, 0, 0, 0)) and sum(taken.y) == pytest.approx(0.80)
    assert [each / sum(replaced.y) for each in replaced.y] == pytest.approx([0, 0, 0, 0.5, 0.3, 0.2])
    whole, cut = (sum(draw.law(kept, "a poor drafter").data[0].y) for kept in (6, 3))
    assert whole == pytest.approx(0.5) and cut > whole


def test_the_best_chain_is_the_library_s():
    speed, mark = draw.lengths(0.8, 0.1).data[1:]
    assert mark.x[0] == costs.best_length(0.8, 0.1) == 6 and max(speed.y) == mark.y[0]
    assert list(speed.y)[5] == costs.speed_up(0.8, 0.1, 5)
    assert "do not draft" in draw.lengths(0.3, 0.4).layout.annotations[0].text


def test_the_model_of_the_published_table_lies_near_its_points():
    for row in costs.PUBLISHED:
        length, cycle, speed = sizes.modelled(costs.PUBLISHED, row["kept"])
        assert length == pytest.approx(row["length"])
        assert cycle == pytest.approx(row["length"] / row["speed"], abs=2e-4)
        assert speed == pytest.approx(row["speed"], rel=0.015)
    best = [sizes.optimum(costs.PUBLISHED, head) for head in sizes.HEADS]
    assert best == sorted(best, reverse=True) and 1 / 16 < best[-1] < best[0] < 1


def test_both_sources_are_drawn_over_their_own_whole_vocabulary():
    figure = sizes.trade(SOURCES)
    squares = [trace for trace in figure.data if trace.marker.symbol == "square"]
    coverage, length, cycle, speed = squares
    assert list(coverage.y) == [row["coverage"] for row in OURS[::-1]]
    for panel in (length, cycle, speed):
        assert panel.x[-1] == panel.y[-1] == 1
    assert list(speed.y) == [row["speed"] / OURS[0]["speed"] for row in OURS[::-1]]
    for one, two, three in zip(length.y, cycle.y, speed.y, strict=True):
        assert three == pytest.approx(one / two)
    check_legible(figure)
