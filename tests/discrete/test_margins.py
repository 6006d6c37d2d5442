"""Floors and breakdown points of the losses with a learned threshold, against their closed forms."""

import math

import pytest
import torch

from effattn_core.discrete.margins import LOSSES, atl, breakdown, drift


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_atl_of_k_positives_is_at_least_k_ln_k(count):
    labels = torch.arange(8) < count
    floor = count * math.log(count)
    best = torch.where(labels, 40.0, -40.0).double()
    assert atl(best, labels).item() == pytest.approx(floor, abs=1e-9)
    drawn = 5 * torch.randn(500, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (atl(drawn, labels.expand(500, 8)) >= floor - 1e-9).all()


def test_breakdown_points_are_the_closed_forms():
    for name in ("SAT", "ATL", "AML", "focal"):
        assert breakdown(name) == pytest.approx(0.5, abs=1e-6), name
    for relations in (2, 8, 96):
        assert breakdown("MeanSAT", relations=relations) == pytest.approx(relations / (relations + 1), abs=1e-6)
    slope = 0.75 + 0.25 * math.log(2)
    assert breakdown("AFL") == pytest.approx(slope / (slope + 0.5), abs=1e-6)
    force = 1.5 * torch.sigmoid(torch.tensor(1.0)).item()
    assert breakdown("CMM (ours)") == pytest.approx(force / (force + 0.125), abs=1e-6)


@pytest.mark.parametrize("missing", [0.1, 0.5, 0.7])
def test_the_margin_of_sat_settles_at_the_log_odds(missing):
    assert drift("SAT", math.log((1 - missing) / missing), missing).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_positives_have_a_finite_slope(name):
    margin = torch.zeros(2, 8, requires_grad=True)
    LOSSES[name](margin, torch.zeros(2, 8, dtype=torch.bool)).sum().backward()
    assert margin.grad.isfinite().all()


def test_a_chance_above_one_is_refused():
    with pytest.raises(ValueError, match="chance"):
        drift("SAT", 0.0, 1.5)
