"""The figures of discrete: their numbers are the library's, and every state is legible."""

from statistics import fmean

import pytest
from support.legible import check_legible, check_states, notes

from effattn_core.discrete.activations import ACTIVATIONS, mean_slope
from effattn_core.recordings import measured
from figures import discrete as draw
from figures.discrete import rules


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.vanishing, draw.vanishing_says, 250, inputs=rules.INPUTS)
    check_states(draw.cutting, draw.cutting_says, 200, cut=rules.CUTS)
    check_states(draw.scores, draw.scores_says, 450, dataset=rules.TABLES)
    numbers = range(1, len(rules.editable()) + 1)
    check_states(draw.edited, draw.edited_says, 250, rule=numbers, dropped=rules.DROPPED)


@pytest.mark.parametrize("inputs", [8, 256, 4096])
def test_slopes_that_are_drawn_are_the_closed_forms(inputs):
    figure = draw.vanishing(inputs)
    for trace in figure.data:
        wanted = [mean_slope(ACTIVATIONS[trace.name], n) for n in trace.x]
        assert list(trace.y) == pytest.approx(wanted, rel=5e-3) and min(wanted) > rules.LEAST
        sizes = dict(zip(trace.x, trace.marker.size, strict=True))
        assert [n for n, size in sizes.items() if size > 5] == [inputs] * (inputs in sizes)
    ended = [trace.name for trace in figure.data if len(trace.x) < len(rules.INPUTS)]
    assert ended == ["product"]  # the only one that leaves the axis


def test_the_net_that_is_cut_at_a_half_is_the_recorded_one():
    (row,) = measured(rules.RUN, what="boards", seed=0)
    boards, line = 958, draw.cutting(0.5).data[0]
    drawn = dict(zip(line.x, line.y, strict=True))
    tested = round(0.3 * 626) + round(0.3 * 332)
    right = row["test"] * tested + row["train"] * (boards - tested)
    assert drawn[0.5] * boards == pytest.approx(right, abs=0.5)
    assert all(share < 0.9 for cut, share in drawn.items() if cut != 0.5) and drawn[0.5] == 1  # as its caption says
    assert drawn[0.9] == round(626 / 958, 4) and " 0 literals" in notes(draw.cutting(0.9))[0]  # only x wins is left
    kept = sum(weight > 500 for weights in row["weights"] for weight in weights)
    assert f"{kept} literals" in notes(draw.cutting(0.5))[0]


def test_a_rule_that_loses_no_literal_leaves_the_recorded_net_and_one_that_does_is_true_of_more_boards():
    (row,) = measured(rules.RUN, what="boards", seed=0)
    for rule, number in enumerate(rules.editable(), 1):
        whole, bars = row["read"][number], draw.edited(rule).data[1].x
        assert bars[0] == pytest.approx(whole["support"], abs=0.02)  # of all boards, and of those of training
        assert bars[2] == round(rules._cut(0.5)[0], 3)
        assert f"Rule {rule} with all its literals, " in draw.edited_says(rule)
        assert f"Rule {rule} without the first of its literals, " in draw.edited_says(rule, "first")
        for dropped in rules.DROPPED[1:]:
            figure = draw.edited(rule, dropped)
            assert len(figure.data[0].text) == 2 and len(draw.edited(rule).data[0].text) == 3
            more = figure.data[1].x[0] > bars[0]
            assert more if whole["kind"] == "and" else figure.data[1].x[0] < bars[0]


@pytest.mark.parametrize("name", rules.TABLES)
def test_scores_are_those_of_the_recording(name):
    hard, soft = draw.scores(name).data
    for trace, field in ((hard, "test"), (soft, "soft")):
        for arm, score in zip(trace.y, trace.x, strict=True):
            rows = measured(rules.RUN, what="table", table=name, arm=arm)
            assert len(rows) == 3 and score == round(fmean(row[field] for row in rows), 4)
    assert [arm for arm in hard.y if "soft" in arm] == list(soft.y)
    check_legible(draw.scores(name))
