"""Intervals, the paired test, test sizes behind decimals, calibration: held to scipy, to counting, to simulation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from effattn_core.splits import comparison as compare

COUNTS = st.integers(0, 40)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_two_sided_binomial_test_of_the_disagreements(first, second):
    wanted = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert compare.mcnemar(first, second) == pytest.approx(wanted, rel=1e-9)


def test_five_disagreements_all_one_way_are_not_enough_and_six_are():
    assert compare.mcnemar(5, 0) == 0.0625 and compare.mcnemar(0, 6) == 0.03125
    assert compare.mcnemar(0, 0) == 1.0 and compare.mcnemar(3, 3) == 1.0
    with pytest.raises(ValueError, match="they are -1 and 2"):
        compare.mcnemar(-1, 2)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys_and_lies_inside(counts):
    right, cases = counts
    wanted = binomtest(right, cases).proportion_ci(method="wilson")
    low, high = compare.wilson(right, cases)
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert 0 <= low < right / cases + 1e-12 and right / cases - 1e-12 < high <= 1


def test_where_all_are_right_wald_has_no_width_and_wilson_has():
    assert compare.wald(20, 20) == (1.0, 1.0)
    low, high = compare.wilson(20, 20)
    assert high == pytest.approx(1.0) and 0.8 < low < 0.9
    assert compare.wald(19, 20)[1] > 1  # an accuracy that cannot be
    for right, cases in ((21, 20), (-1, 20), (0, 0)):
        with pytest.raises(ValueError, match=f"it is {right} of {cases}"):
            compare.wilson(right, cases)


def test_decimals_tell_the_size_of_the_test():
    pair, four = [".737", ".789"], [".737", ".789", ".632", ".763"]
    assert compare.sizes_that_fit(pair)[0] == 19 and compare.sizes_that_fit(four)[:2] == [38, 76]
    assert compare.sizes_that_fit([".820", ".852"])[:4] == [61, 122, 128, 183]
    assert compare.sizes_that_fit([".82", ".85"])[0] < 61  # the last zero counts
    with pytest.raises(ValueError, match="it is 0.82"):
        compare.sizes_that_fit([0.82])


@given(st.integers(1, 150), st.data())
def test_the_true_size_always_fits(cases, data):
    rights = data.draw(st.lists(st.integers(0, cases), min_size=1, max_size=4))
    assert cases in compare.sizes_that_fit([f"{right / cases:.3f}" for right in rights], cases)


@pytest.mark.parametrize(("cases", "gap", "disagree"), [(20, 0.03, 0.2), (61, 0.03, 0.15), (50, 0.0, 0.3)])
def test_shares_of_winners_are_those_of_simulated_experiments(cases, gap, disagree):
    found = compare.winners(cases, gap, disagree)
    assert found["right"] + found["tie"] + found["wrong"] == pytest.approx(1)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(20_000, cases, generator=generator)
    better = (drawn < (disagree + gap) / 2).sum(1)
    worse = (drawn > 1 - (disagree - gap) / 2).sum(1)
    assert found["wrong"] == pytest.approx((worse > better).double().mean().item(), abs=0.012)
    seen = [compare.mcnemar(a, b) < 0.05 and b > a for a, b in zip(worse.tolist(), better.tolist(), strict=True)]
    assert found["seen"] == pytest.approx(sum(seen) / len(seen), abs=0.01)


def test_more_cases_make_the_wrong_winner_rarer_and_a_gap_of_nothing_is_even():
    shares = [compare.winners(cases, 0.03, 0.2)["wrong"] for cases in (20, 60, 200, 600)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.25 > 0.1 > shares[-1]
    even = compare.winners(100, 0.0, 0.2)
    assert even["right"] == pytest.approx(even["wrong"]) and even["seen"] < 0.025
    assert compare.winners(30, 0.0, 0.0)["tie"] == 1
    with pytest.raises(ValueError, match="disagrees, 0.1; it is 0.2"):
        compare.winners(30, 0.2, 0.1)


def test_the_bootstrap_draws_cases_with_both_verdicts():
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(80, generator=generator) < 0.7
    gap, low, high = compare.paired_bootstrap(first, first)
    assert gap == low == high == 0  # equal systems are equal in every draw: a bootstrap of each alone would not be
    second = first.clone()
    second[:8] = ~second[:8]
    gap, low, high = compare.paired_bootstrap(first, second)
    assert low <= gap <= high and high - low < 0.2
    assert gap == pytest.approx(first.double().mean().item() - second.double().mean().item())
    assert compare.disagreements(first, second) == (int(first[:8].sum()), int(8 - first[:8].sum()))
    with pytest.raises(ValueError, match=r"they are \[2\] and \[3\]"):
        compare.disagreements([True, False], [True, False, True])


def test_the_unpaired_test_is_blind_to_the_pairs():
    assert compare.mcnemar(0, 8) < 0.01 < 0.2 < compare.unpaired(40, 48, 61 + 20)
    assert compare.unpaired(10, 10, 10) == 1.0


def test_a_perfect_forecaster_has_a_calibration_error_that_falls_with_cases():
    generator = torch.Generator().manual_seed(2)
    few, many = torch.rand(61, generator=generator), torch.rand(6100, generator=generator)
    few, many = compare.calibration_bias(few, draws=400), compare.calibration_bias(many, draws=100)
    assert few > 0.08 and few / many == pytest.approx(10, rel=0.3)  # as one over the root of cases


def test_calibration_error_and_brier_by_hand():
    probability = torch.tensor([0.1, 0.15, 0.9, 0.95], dtype=torch.float64)
    outcome = torch.tensor([0, 1, 1, 1])
    wanted = abs(1 - 0.25) / 4 + abs(2 - 1.85) / 4
    assert compare.calibration_error(probability, outcome).item() == pytest.approx(wanted)
    assert compare.brier(probability, outcome) == pytest.approx((0.01 + 0.7225 + 0.01 + 0.0025) / 4)
    both = compare.calibration_error(probability.expand(2, 4).contiguous(), outcome.expand(2, 4))
    assert both.shape == (2,) and compare.calibration_error(torch.ones(3), torch.ones(3)).item() == 0
