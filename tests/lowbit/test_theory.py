"""Swamping, noise and bias: thresholds found by experiment, the momentum rule's table, the laws of rounding."""

import pytest

from effattn_core.lowbit import levels, theory
from effattn_core.lowbit.theory import PRINTED_FREEZING, PRINTED_MOMENTUM, PRINTED_RADII


@pytest.mark.parametrize(("bits", "beta"), PRINTED_FREEZING["linear_zero"].items())
def test_linear_levels_with_a_zero_freeze_from_where_the_paper_says_but_for_eight_bits(bits, beta):
    found = theory.freezing_threshold("linear_zero", bits)
    assert found == pytest.approx(1 - 1 / (2 * (2**bits - 1)), abs=1e-8)
    assert found == pytest.approx(beta, abs=5e-4) or (bits == 8 and beta == 0.999 and round(found, 3) == 0.998)


def test_linear_levels_without_a_zero_freeze_later_and_upwards_as_early():
    found = [theory.freezing_threshold("linear", bits) for bits in (2, 3, 4, 8)]
    assert found == pytest.approx([0.875, 0.9375, 0.96875, 0.99805], abs=5e-6)
    upward = [theory.freezing_threshold("linear", bits, signals=(1.0,)) for bits in (2, 3, 4, 8)]
    assert upward == pytest.approx([0.8333, 0.9286, 0.9667, 0.9980], abs=5e-5)


def test_half_of_the_exponent_levels_freeze_earlier_than_is_printed_and_the_top_later():
    bits = (2, 3, 4, 8)
    half = [theory.freezing_threshold("exponent", each, share=0.5) for each in bits]
    whole = [theory.freezing_threshold("exponent", each) for each in bits]
    printed = [theory.sufficient_threshold("exponent", each) for each in bits]
    assert half == pytest.approx([0.710, 0.873, 0.940, 0.9965], abs=5e-4)
    assert whole[:3] == pytest.approx([0.8875, 0.98375, 0.99838], abs=5e-5) and whole[3] > 0.99999
    assert printed == pytest.approx(list(PRINTED_FREEZING["exponent"].values()), abs=7e-4)
    assert all(early < said for early, said in zip(half, printed, strict=True))


def test_a_frozen_level_is_one_that_rounding_gives_back():
    stuck = theory.frozen("exponent", 2, 0.75)
    assert stuck.tolist() == [False, True, True, False]  # 0, .325, .775, 1
    assert not theory.frozen("linear_zero", 2, 0.0).any() and theory.frozen("linear_zero", 2, 0.9).all()


def test_the_momentum_rule_s_table_follows_from_rounded_radii_and_not_from_exact_ones():
    rounded = {
        after: {bits: round(theory.momentum_rule(after, bits, radius=PRINTED_RADII.get), 3) for bits in row}
        for after, row in PRINTED_MOMENTUM.items()
    }
    assert rounded == PRINTED_MOMENTUM
    exact = {after: [round(theory.momentum_rule(after, bits), 3) for bits in (8, 7, 6, 5)] for after in (4, 3, 2)}
    assert exact == {
        4: [0.360, 0.529, 0.692, 0.818], 3: [0.220, 0.360, 0.529, 0.692], 2: [0.121, 0.216, 0.356, 0.525],
    }  # fmt: skip


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_radius_is_the_median_of_half_the_gaps(bits):
    assert theory.signed_radius(bits) == pytest.approx(theory.median_half_gap("exponent", bits), rel=1e-12)
    assert abs(theory.signed_radius(bits) - PRINTED_RADII[bits]) <= 5.1e-4


@pytest.mark.parametrize(
    ("bits", "beta", "bound", "mean"),
    [(4, 0.9, 8.3, 3.5), (4, 0.8, 1.7, 0.69), (2, 0.9, 50, 31), (2, 0.5, 0.62, 0.38), (8, 0.9, 0.033, 0.017)],
)
def test_noise_stays_under_the_bound_and_is_what_was_measured_elsewhere(bits, beta, bound, mean):
    most, real = theory.added_variance(beta, bits)
    assert real < most and most == pytest.approx(bound, rel=0.04) and real == pytest.approx(mean, rel=0.04)


def test_the_rule_keeps_the_noise_of_eight_bits():
    for bits in (2, 3, 4):
        beta = theory.momentum_rule(bits)
        assert theory.variance_factor(beta, bits) == pytest.approx(theory.variance_factor(0.9, 8))
        largest = theory.variance_factor(beta, bits, radius="largest")
        half = (levels("exponent", bits, signed=True).diff() / 2).max().item()
        assert largest == pytest.approx((beta / (1 - beta) * half) ** 2)


def test_a_rounded_logarithm_makes_the_value_too_large_by_the_stated_law():
    found = [theory.largest_logarithm_bias(alpha) for alpha in (0.1, 0.2, 0.4446, 0.6)]
    assert found == pytest.approx([1.857, 1.367, 1.085, 1.033], abs=5e-4)
    for alpha in (0.1, 0.6):
        grid = [theory.logarithm_bias(alpha, part / 1000) for part in range(1001)]
        assert max(grid) == pytest.approx(theory.largest_logarithm_bias(alpha), rel=1e-5) and min(grid) == 1
    assert theory.largest_logarithm_bias(1.0) == theory.logarithm_bias(1.0, 0.5) == 1


def test_the_case_study_nearest_levels_stay_near_the_start_and_random_ones_find_the_mean():
    # The scale stays while one of the elements is near 1, so that no level falls; the paper prints a mean of 1.
    for kind, bits, beta in (("linear_zero", 3, 0.929), ("linear_zero", 4, 0.967), ("exponent", 2, 0.8875)):
        assert theory.averaged(kind, bits, beta)[-1] > 0.98
    whole = theory.averaged("exponent", None, 0.9)[-1]
    assert whole == pytest.approx(0.499, abs=0.005)
    rounded = [theory.averaged("logarithmic", bits, 0.9)[-1] for bits in (2, 3, 4)]
    assert rounded[0] > rounded[1] > whole + 0.01 and abs(rounded[2] - 0.518) < 0.01  # the lift, and the bias
    assert theory.averaged("logarithmic_unbiased", 2, 0.9)[-1] < rounded[0]
    for bits in (2, 3, 4):
        assert theory.averaged("linear", bits, 0.9, stochastic=True)[-1] == pytest.approx(whole, abs=0.015)
    assert theory.averaged("exponent", None, 0.99)[-1] > 0.65  # not converged: no swamping


@pytest.mark.parametrize(("steps_per_level", "down"), [(10, 3), (20, 3), (5, 3)])
def test_a_level_falls_in_the_expected_steps(steps_per_level, down):
    expected = steps_per_level * down
    assert theory.fall(0.9, 0.9**steps_per_level, down) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: theory.frozen("exponent", 2, 1.0), "beta must be from 0 to under 1; it is 1.0"),
        (lambda: theory.freezing_threshold("exponent", 2, share=0), "share must be above 0 and at most 1"),
        (lambda: theory.momentum_rule(9), "bits must be at most 8; it is 9"),
        (lambda: theory.variance_factor(0.9, 4, radius="mean"), "radius must be 'median' or 'largest'"),
        (lambda: theory.logarithm_bias(0, 0.5), "alpha must be in .0, 1., fraction in .0, 1."),
        (lambda: theory.largest_logarithm_bias(2.0), "alpha must be in .0, 1.; it is 2.0"),
        (lambda: theory.averaged("exponent", 2, 0.9, steps=0), "steps must be a whole number of at least 1"),
        (lambda: theory.fall(0.9, 1.0, 3), "alpha must lie between 0 and 1; it is 1.0"),
    ],
)
def test_bad_input_says_what_was_given_and_what_is_wanted(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
