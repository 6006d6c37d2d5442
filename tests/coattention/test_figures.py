"""The figures of coattention: their numbers are the library's and the recording's, and every state is legible."""

from statistics import fmean

import pytest
import torch
from support.legible import check_states

from effattn_core.coattention import facts, pooling
from effattn_core.coattention.fusion import most_weight
from effattn_core.recordings import measured
from figures import coattention as draw
from figures.coattention import fusion as drawn

TRUTH = [True, False]


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.bound, draw.bound_says, 250, norm=draw.NORMS)
    check_states(draw.noisy, draw.noisy_says, 250, noise=draw.NOISES)
    check_states(draw.columns, draw.columns_says, 250, form=list(pooling.FORMS), causal=TRUTH)
    check_states(draw.aspects, draw.aspects_says, 250, shown=draw.SHOWN, graph=TRUTH)


@pytest.mark.parametrize("norm", draw.NORMS)
def test_weights_are_shares_and_no_region_passes_the_bound_that_is_named(norm):
    found = draw.bound(norm)
    for trace, count in zip(found.data, (36, 4), strict=True):
        flat = [each for row in trace.z for each in row]
        limit = most_weight(torch.tensor([float(norm)]), count).item()
        assert len(flat) == count and sum(flat) == pytest.approx(1, abs=0.02)
        assert max(flat) <= limit + 5e-4
        assert f"{max(flat):.2f}" in draw.bound_says(norm) and f"{limit:.2f}" in draw.bound_says(norm)
    cells, boxes = (trace.z for trace in found.data)
    assert max(map(max, cells)) == cells[1][1] and max(map(max, boxes)) == boxes[0][0]  # who is asked has the most


def test_a_larger_weight_vector_is_sharper():
    sharpest = [[max(map(max, trace.z)) for trace in draw.bound(norm).data] for norm in draw.NORMS]
    assert sharpest == sorted(sharpest) and sharpest[0][0] < 0.5 < sharpest[-1][0]


@pytest.mark.parametrize("noise", draw.NOISES)
def test_bars_are_means_of_the_recording_and_whiskers_end_at_its_seeds(noise):
    (bars,) = draw.noisy(noise).data
    assert tuple(bars.y) == facts.ARMS
    for place, arm in enumerate(facts.ARMS):
        seeds = [row["accuracy"] for row in measured(drawn.RUN, what="facts", arm=arm, noise=noise)]
        assert bars.x[place] == pytest.approx(fmean(seeds))
        assert bars.x[place] + bars.error_x.array[place] == pytest.approx(max(seeds))
        assert bars.x[place] - bars.error_x.arrayminus[place] == pytest.approx(min(seeds))


@pytest.mark.parametrize("causal", TRUTH)
@pytest.mark.parametrize("form", pooling.FORMS)
def test_columns_are_pooled_as_the_library_does(form, causal):
    bars, even, matrix = draw.columns(form, causal).data
    (row,) = measured(drawn.SEEN, what="columns", causal=causal)
    weight = torch.tensor(row["weight"]).double()
    assert matrix.z == tuple(map(tuple, row["weight"])) or [list(each) for each in matrix.z] == row["weight"]
    rows_that_see = torch.arange(len(weight), 0, -1) if causal else torch.full((len(weight),), len(weight))

    def shares(weight):
        total = (len(weight) * weight).log1p().sum(0) if form == "log" else weight.sum(0)
        total = total / rows_that_see if form == "norm" else total
        return total / total.sum()

    wanted = shares(weight)
    reached = torch.ones_like(weight).tril() if causal else torch.ones_like(weight)
    assert list(even.y) == pytest.approx(shares(reached / reached.sum(1, keepdim=True)).tolist(), abs=1e-4)
    assert list(bars.y) == pytest.approx(wanted.tolist(), abs=1e-4) and sum(bars.y) == pytest.approx(1, abs=1e-2)
    top = wanted.argmax().item()
    assert f"“{row['tokens'][top]}” at place {top + 1} gets {wanted[top]:.3f}" in draw.columns_says(form, causal)
    assert bool(weight.triu(1).any()) != causal


def test_norm_without_a_mask_says_that_it_is_the_sum():
    norm, plain = (draw.columns(form, False).data[0].y for form in ("norm", "sum"))
    assert norm == plain and "norm is sum here" in draw.columns_says("norm", False)
    assert "norm is sum here" in draw.columns("norm", False).layout.annotations[0].text
    assert "norm is sum here" not in draw.columns_says("norm", True) + draw.columns_says("sum", False)
    assert draw.columns("norm", True).data[0].y != draw.columns("sum", True).data[0].y


@pytest.mark.parametrize("graph", TRUTH)
@pytest.mark.parametrize("shown", draw.SHOWN)
def test_aspects_are_one_user_s_of_the_recording_and_the_error_is_of_all(shown, graph):
    truth, learnt = draw.aspects(shown, graph).data
    (row,) = measured(drawn.SEEN, what="aspects", shown=shown, graph=graph)
    assert (list(truth.x), list(learnt.x)) == (row["truth"], row["weight"]) and len(row["truth"]) == len(drawn.WINE)
    arm = "guided + graph" if graph else "guided"
    error = fmean(row["error"] for row in measured(drawn.RUN, what="aspects", arm=arm, shown=shown))
    assert f"{error:.3f}." in draw.aspects_says(shown, graph)
    title = draw.aspects(shown, graph).layout.annotations[0].text
    arm = "mean + graph" if graph else "mean of aspects"
    unguided = fmean(row["error"] for row in measured(drawn.RUN, what="aspects", arm=arm, shown=shown))
    assert f"error {error:.2f}" in title and f"unguided {unguided:.2f}" in title
