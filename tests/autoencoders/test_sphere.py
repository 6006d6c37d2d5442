"""Latents of one length: the normalisation against its definition, its gradient, and the loss of directions."""

import math

import pytest
import torch

from effattn_core.autoencoders import directional, semantic_loss, unit_rms, unit_rms_backward, unit_rms_oracle

SHAPES = [(3, 16, 8), (1, 1, 32), (2, 5, 1), (0, 4, 8), (7, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_form_loses_at_most_twice_what_the_definition_loses_in_float32(shape):
    mean = torch.randn(shape)
    truth = unit_rms_oracle(mean.double())
    lost, plain = ((each.double() - truth).abs() for each in (unit_rms(mean), unit_rms_oracle(mean)))
    assert not truth.numel() or lost.max() <= 2 * plain.max() + torch.finfo(torch.float32).eps


def test_a_latent_of_two_numbers_by_hand():
    # rms of (3, 4) is sqrt(12.5): (0.8485, 1.1314), of length sqrt(2).
    found = unit_rms_oracle(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    assert torch.allclose(found, torch.tensor([[3.0, 4.0]], dtype=torch.float64) / math.sqrt(12.5), atol=1e-6)
    assert abs(found.norm().item() - math.sqrt(2)) < 1e-6


@pytest.mark.parametrize("latent", [2, 8, 32])
def test_the_radius_is_the_root_of_the_latent_s_size_and_not_one(latent):
    length = unit_rms(torch.randn(50, latent, dtype=torch.float64)).norm(dim=-1)
    assert torch.allclose(length, torch.full_like(length, latent**0.5), atol=1e-4)


def test_the_gradient_is_that_of_autograd_and_leaves_nothing_along_the_latent():
    mean = torch.randn(4, 3, 8, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(4, 3, 8, dtype=torch.float64)
    unit_rms_oracle(mean).backward(gradient)
    found = unit_rms_backward(mean.detach(), gradient)
    assert (found - mean.grad).abs().max() < 1e-14
    assert (found * mean.detach()).sum(-1).abs().max() < 1e-4  # the 1e-6 under the root is all that is left
    assert torch.autograd.gradcheck(unit_rms_oracle, mean)


def test_a_larger_encoder_changes_no_latent_and_gets_a_smaller_gradient():
    mean, gradient = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    assert (unit_rms(10 * mean) - unit_rms(mean)).abs().max() < 1e-4
    ratio = unit_rms_backward(10 * mean, gradient) * 10 / unit_rms_backward(mean, gradient)
    assert (ratio - 1).abs().max() < 1e-2
    step = mean - 0.1 * unit_rms_backward(mean, gradient)
    assert (step.norm(dim=-1) >= mean.norm(dim=-1)).all()  # a step along the tangent never shortens


def test_the_semantic_loss_is_two_minus_two_cosines_and_sees_directions_alone():
    mean, target = torch.randn(6, 4, 8, dtype=torch.float64), torch.randn(6, 4, 8, dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity(mean, target, dim=-1)
    assert (directional(mean, target) - (2 - 2 * cosine)).abs().max() < 1e-5
    assert abs(semantic_loss(mean, 7 * mean).item()) < 1e-6 and abs(semantic_loss(mean, -mean).item() - 4) < 1e-5
    assert torch.allclose(directional(5 * mean, target), directional(mean, target), atol=1e-5)


def test_each_token_has_its_own_length():
    mean = torch.randn(1, 2, 8, dtype=torch.float64)
    longer = torch.cat((mean[:, :1], 100 * mean[:, 1:]), 1)
    assert torch.allclose(unit_rms(longer)[:, 0], unit_rms(mean)[:, 0])


def test_shapes_that_differ_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"need one shape; they have \(2, 8\) and \(8,\)"):
        directional(torch.ones(2, 8), torch.ones(8))
