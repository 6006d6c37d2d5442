"""Example weights: alignment is the derivative through the unrolled step, and clipping is as written."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from effattn_core.signals import weights as w


def problem(seed, batch=7, width=5, classes=4):
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    targets = torch.randint(classes, (2, batch), generator=generator)
    return (drawn(batch, width), targets[0]), (drawn(batch, width), targets[1]), 0.3 * drawn(width, classes)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from((1e-3, 0.1, 2.0)))
def test_the_derivative_by_an_examples_weight_is_minus_the_rate_times_the_alignment(seed, rate):
    (features, targets), gold, parameter = problem(seed)
    unrolled, derivative = w.oracle(
        lambda given: functional.cross_entropy(features @ given, targets, reduction="none"),
        lambda given: functional.cross_entropy(gold[0] @ given, gold[1]),
        parameter,
        rate,
    )
    gradients, _ = w.gradients_of(features, targets, parameter)
    meta = w.gradients_of(*gold, parameter)[0].mean(0)
    torch.testing.assert_close(derivative, -rate * gradients @ meta, atol=1e-13, rtol=0)
    torch.testing.assert_close(w.weights(gradients, meta), unrolled, atol=1e-12, rtol=0)


def test_weights_are_nonnegative_sum_to_one_and_are_all_zero_where_nobody_helps():
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [3.0, 5.0]])
    assert w.weights(gradients, torch.tensor([1.0, 0.0])).tolist() == [0.25, 0.0, 0.75]
    nobody = w.weights(-gradients.abs(), torch.tensor([1.0, 1.0]))
    assert nobody.tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3,\)"):
        w.weights(gradients, torch.ones(3))


@pytest.mark.parametrize("candidates", [False, True])
def test_closed_gradients_are_those_of_autograd(candidates):
    generator = torch.Generator().manual_seed(3)
    if candidates:
        features = torch.randn(6, 4, 5, dtype=torch.float64, generator=generator)
        features[2, 3] = features[4, 2:] = torch.inf
        parameter = torch.randn(5, dtype=torch.float64, generator=generator)
    else:
        features = torch.randn(6, 5, dtype=torch.float64, generator=generator)
        parameter = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    targets = torch.tensor([0, 1, 2, 0, 1, 1])
    found, losses = w.gradients_of(features, targets, parameter)
    for row in range(6):
        start = parameter.clone().requires_grad_()
        there = features[row].isfinite().all(-1) if candidates else slice(None)
        logits = features[row][there] @ start if candidates else features[row] @ start
        loss = functional.cross_entropy(logits[None], targets[row : row + 1])
        (gradient,) = torch.autograd.grad(loss, start)
        torch.testing.assert_close(found[row], gradient.flatten(), atol=1e-12, rtol=0)
        torch.testing.assert_close(losses[row], loss.detach(), atol=1e-12, rtol=0)
    assert w.predicted(features, parameter).shape == (6,)
    torch.testing.assert_close(w._meta((features, targets), parameter[None]), losses.mean()[None])


def test_wrong_labels_get_less_weight_and_training_is_rescued():
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(3, 8, generator=generator)
    true = torch.randint(3, (330,), generator=generator)
    features = centres[true] + torch.randn(330, 8, generator=generator)
    drawn = torch.where(torch.rand(330, generator=generator) < 0.6, (true + 1) % 3, true)
    noisy, gold = (features[:300], drawn[:300]), (features[300:315], true[300:315])
    accuracy, weight = {}, {}
    for rule in ("noisy", "gold", "both", "weighted", "accepted", "own"):
        found, weight[rule] = w.trained(noisy, gold, rule, width=(8, 3), steps=60)
        accuracy[rule] = (w.predicted(features, found) == true).float().mean().item()
    right = drawn[:300] == true[:300]
    assert w.ranks(weight["weighted"], right) > 0.6 and w.ranks(weight["accepted"], right) > 0.6
    assert w.ranks(weight["noisy"], right) == 0.5
    assert accuracy["noisy"] < accuracy["weighted"] - 0.2


def test_ranks_counts_ties_as_half():
    assert w.ranks(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, False, False])) == 0.75
