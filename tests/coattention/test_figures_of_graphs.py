"""The figures of votes, views, trees, languages and slices: each state is legible, and draws what it says."""

from statistics import fmean

import pytest
import torch
from support.legible import check_states, notes

from effattn_core.recordings import measured
from figures import coattention as draw

RUN = "coattention/graphs-cpu"


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.ballot, draw.ballot_says, 250, agree=draw.AGREE, able=draw.ABLE)
    check_states(draw.alignment, draw.alignment_says, 250, width=draw.SPANS, null=(False, True))
    check_states(draw.parsers, draw.parsers_says, 250, depth=draw.DEPTHS)
    check_states(draw.digits, draw.digits_says, 250, triples=draw.TRIPLES, seed=draw.SEEDS)
    check_states(draw.decays, draw.decays_says, 250, hops=draw.WALKS)
    check_states(draw.ending, draw.ending_says, 250, slope=draw.SLOPES)


@pytest.mark.parametrize("able", draw.ABLE)
def test_the_mean_does_not_move_with_those_who_agree_and_the_sum_does(able):
    sums, means = zip(*([trace.y[0] for trace in draw.ballot(agree, able).data] for agree in draw.AGREE), strict=True)
    assert len(set(means)) == 1 and list(sums) == pytest.approx([agree * means[0] for agree in draw.AGREE], abs=0.01)
    assert "sum: “7” wins" in notes(draw.ballot())[0] and "mean: “1” wins" in notes(draw.ballot())[1]


@pytest.mark.parametrize("width", draw.SPANS)
def test_rows_sum_to_one_without_a_null_key_and_to_the_sigmoid_of_the_evidence_with_it(width):
    plain, evidence = draw.alignment(width, False).data
    assert [sum(row) for row in plain.z] == pytest.approx([1] * len(plain.z), abs=0.02)
    damped = [sum(row) for row in draw.alignment(width, True).data[0].z]
    assert damped == pytest.approx(torch.sigmoid(torch.tensor(evidence.x) + 2).tolist(), abs=0.02)


@pytest.mark.parametrize("depth", draw.DEPTHS)
def test_lines_of_parses_are_means_of_the_recording(depth):
    for line in draw.parsers(depth).data:
        for error, score in zip(line.x, line.y, strict=True):
            rows = measured(RUN, mechanism="trees", arm=line.name, error=error, depth=depth)
            assert score == pytest.approx(fmean(row["score"] for row in rows), abs=6e-4)


def test_marks_stand_on_the_largest_cosine_of_each_row():
    cosines, marks = draw.digits().data
    for row, mark in zip(cosines.z, marks.x, strict=True):
        assert row[mark] == max(row)


def test_decays_are_those_recorded_and_the_line_is_one_graph():
    for hops in draw.WALKS:
        bars, line = draw.decays(hops).data
        (one,) = measured(RUN, mechanism="slices", arm=f"global, {hops}")
        assert set(line.y) == {one["score"]} and len(bars.y) == 7


def test_the_curve_over_a_gap_holds_the_mass_that_is_named():
    for slope in (-1.0, 0.5):
        (curve,) = draw.ending(slope).data
        whole = torch.trapezoid(torch.tensor(curve.y), torch.tensor(curve.x)).item()
        never = float(notes(draw.ending(slope))[0].split("never: ")[1].split("<")[0])
        assert whole + never == pytest.approx(1, abs=0.02)
