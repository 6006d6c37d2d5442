"""Slices: the symmetric graph step through log-sum-exp, and a density of gaps without cancellation."""

import math

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core.coattention.claims import graphs as claims
from effattn_core.coattention.slices import (
    fitted,
    gaps,
    log_density,
    mass,
    oracle,
    propagated,
    ranks,
    released_log_density,
    sliced,
    walks,
)
from effattn_core.coattention.votes import gathered
from effattn_core.plays import plays
from effattn_core.recordings import measured


def graph(seed=0, nodes=9):
    drawn = torch.rand(nodes, nodes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weights = torch.triu(drawn * (drawn > 0.5), 1)
    weights = weights + weights.T
    weights[4] = weights[:, 4] = 0  # a node without edges
    return weights, torch.randn(nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("weighted", (True, False))
def test_a_symmetric_hop_is_attention_and_its_log_sum_exp(weighted):
    weights, table = graph()
    weights = weights if weighted else (weights > 0).double()
    torch.testing.assert_close(propagated(weights, table), oracle(weights, table), rtol=1e-12, atol=1e-14)
    assert (propagated(weights, table)[4] == 0).all()
    mean, log_sum_exp = gathered(table, bias=weights.log())
    torch.testing.assert_close(log_sum_exp.exp(), weights.sum(1))
    assert (mean - oracle(weights, table)).abs().max() > 0.05  # no average


def value(number):
    return torch.tensor(float(number), dtype=torch.float64)


def density(slope, gap=2.0, rate=0.3):
    return log_density(value(gap), value(rate), value(slope)).item()


def test_the_density_is_right_at_three_slopes_and_continuous_at_zero():
    for slope, wanted in ((0, -2.3997176), (0.5, -3.3388757), (-0.5, -2.4065470)):
        assert density(slope) == pytest.approx(wanted, abs=5e-8)
    for slope in (1e-8, -1e-8, 4.9e-6, 5.1e-6):
        assert density(slope) == pytest.approx(density(0), abs=1e-5)
    single = log_density(*(torch.tensor(each) for each in (2.0, 0.3, 1e-7)))
    cancelled = released_log_density(*(torch.tensor(each) for each in (2.0, 0.3, 1e-7)))
    assert abs(single.item() - density(1e-7)) < 1e-5 < 0.05 < abs(cancelled.item() - density(1e-7))


@pytest.mark.parametrize("slope", (-0.5, 0.0, 0.4))
def test_the_density_integrates_to_its_mass(slope):
    steps = torch.linspace(0, 60, 60001, dtype=torch.float64)
    whole = torch.trapezoid(log_density(steps, value(0.3), value(slope)).exp(), steps).item()
    assert whole == pytest.approx(mass(0.3, slope), abs=1e-5)
    assert (mass(0.3, slope) < 0.94) == (slope < 0)


def test_gradients_reach_the_slope_at_zero():
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_density(value(2), value(0.3), slope).backward()
    near = (density(1e-4) - density(-1e-4)) / 2e-4
    assert slope.grad.item() == pytest.approx(near, rel=1e-5)


def test_a_fit_finds_what_gaps_were_drawn_with():
    uniform = torch.rand(2, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rate, slope = torch.tensor([[0.3], [-0.4]]).double(), torch.tensor([[0.6], [0.2]]).double()
    drawn = torch.log1p(-slope * torch.exp(-rate) * torch.log1p(-uniform)) / slope
    drawn[1, 3000:] = math.nan
    rates, slopes = fitted(drawn)
    torch.testing.assert_close(rates[:, None], rate, atol=0.08, rtol=0)
    torch.testing.assert_close(slopes[:, None], slope, atol=0.08, rtol=0)


def test_walks_end_on_the_other_side_and_ranks_are_shares():
    counts = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]]).double()
    whole = torch.zeros(5, 5, dtype=torch.float64)
    whole[:2, 2:] = counts
    whole = whole + whole.T
    step = oracle(whole, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(walks(counts, 3), (step + step @ step @ step)[:2, 2:])
    torch.testing.assert_close((step @ step)[:2, 2:], torch.zeros(2, 3, dtype=torch.float64))  # an even walk comes home
    found = sliced(plays()[0])
    told = ranks(found, 3, 3)
    assert told and all(0 < each <= 1 for each in told) and told != ranks(found, "global", 3)
    last, narrow = (sum(ranks(found, decay, 1)) for decay in (0, 1e-3))
    assert last == pytest.approx(narrow)
    assert all(each > 0 for line in gaps(plays()[0]).values() for each in line)


def test_the_chance_that_a_gap_never_ends():
    assert_solved("coattention.never", math.exp(-math.exp(0.5) / 0.8))
    for mistake, sentence in (
        (mass(0.5, -0.8), "does end"),
        (0, "finite"),
        (math.exp(-math.exp(0.5)), "whole integral"),
        (math.exp(-0.5 / 0.8), "ρ is a logarithm"),
        (math.exp(-0.8 * math.exp(0.5)), "divides"),
    ):
        assert_named("coattention.never", mistake, sentence)


def test_differences_of_decays_are_paired_over_the_recorded_questions():
    (ours,), (one,) = claims.scores("slices", "3, 3"), claims.scores("slices", "global, 3")
    gain, reach = claims.paired(3, "global")
    assert gain == pytest.approx(100 * (ours - one), abs=0.02)
    (row,) = measured(claims.RUN, mechanism="slices", arm="3, 3")
    assert 0 < reach < 200 * row["se"]  # the questions are the same, so they err together
    assert claims.gained_noise() == pytest.approx(reach / one, rel=1e-3)
