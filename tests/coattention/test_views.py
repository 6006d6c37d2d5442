"""Views: a Gaussian bias is Nadaraya and Watson's estimate, and a null key turns log-sum-exp into a weight."""

import pytest
import torch

from effattn_core.coattention import attend
from effattn_core.coattention.views import ARMS, areas, by_time, closeness, damped, oracle, pairs, with_null
from effattn_core.plays import plays


def visits(seed=0):
    draw = torch.Generator().manual_seed(seed)
    times, others = (50 * torch.rand(count, generator=draw).double() for count in (6, 9))
    return times, others, torch.randn(9, 3, generator=draw).double()


@pytest.mark.parametrize("width", (3.0, 10.0, 100.0))
def test_zero_scores_and_a_gaussian_bias_are_nadaraya_and_watson(width):
    times, others, value = visits()
    output, log_sum_exp = by_time(times, others, value, width)
    torch.testing.assert_close(output, oracle(times, others, value, width), rtol=1e-10, atol=1e-12)
    kernel = torch.exp(closeness(times, others, width)).sum(1)
    torch.testing.assert_close(log_sum_exp.exp(), kernel)


def test_the_clock_may_start_anywhere_and_a_wide_kernel_is_a_mean():
    times, others, value = visits()
    torch.testing.assert_close(by_time(times + 7, others + 7, value, 5.0)[0], by_time(times, others, value, 5.0)[0])
    torch.testing.assert_close(by_time(times, others, value, 1e6)[0], value.mean(0).expand(6, 3))
    nearest = value[(times[:, None] - others).abs().argmin(1)]
    torch.testing.assert_close(by_time(times, others, value, 0.01)[0], nearest)
    with pytest.raises(ValueError, match="above 0"):
        closeness(times, others, 0)


def test_a_match_of_long_ago_gets_all_the_weight_and_only_log_sum_exp_tells():
    value = torch.ones(1, 1).double()
    near, far = (by_time(torch.tensor([at]).double(), torch.zeros(1).double(), value, 3.0) for at in (1.0, 90.0))
    assert near[0].item() == pytest.approx(far[0].item()) == 1
    assert near[1].item() > -0.1 and far[1].item() == pytest.approx(-450)


@pytest.mark.parametrize("score", (-4.0, 0.0, 3.0))
def test_a_null_key_multiplies_by_the_sigmoid_of_the_evidence(score):
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(2, count, 4, generator=draw).double() for count in (3, 5, 5))
    bias, mask = torch.randn(3, 5, generator=draw).double(), torch.rand(3, 5, generator=draw) > 0.3
    mask[1] = False  # sees nothing but the null key
    output, weights, log_sum_exp = attend(query, key, value, bias, mask)
    with_it, given, _ = with_null(query, key, value, score, bias, mask)
    torch.testing.assert_close(with_it, damped(output, log_sum_exp, score), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(given[..., -1], torch.sigmoid(score - log_sum_exp))
    assert (with_it[:, 1] == 0).all() and (given[:, 1, -1] == 1).all()


def test_features_are_those_of_a_pair_in_either_order_and_the_areas_are_shares():
    found = [pair for play in plays()[:6] for pair in pairs(play)]
    assert found and any(pair.linked for pair in found) and not all(pair.linked for pair in found)
    assert any(pair.new and pair.linked for pair in found)
    lengths = {tuple(len(pair.features[view]) for view in sorted(pair.features)) for pair in found}
    assert len(lengths) == 1
    every, new = areas(found, ARMS["three views"], 0, held=2)
    assert 0 <= new <= 1 and 0.3 < every <= 1
