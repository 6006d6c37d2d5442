"""The exercises on autoencoders: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.autoencoders import semantic_loss, shifted, unit_rms, unit_rms_backward
from effattn_core.autoencoders.flow import FIRST, LAST, SAMPLE_SHIFT, time_grid
from effattn_core.latents.tokenisers import sigma_sample


@triton.jit
def normalise_kernel(source_pointer, target_pointer, latent, BLOCK: tl.constexpr, OVER: tl.constexpr):
    """target = source / rms(source); one program owns a row. OVER: what the squares are divided by, 0 for `latent`."""
    places = tl.arange(0, BLOCK)
    start = tl.program_id(0).to(tl.int64) * latent
    row = tl.load(source_pointer + start + places, mask=places < latent, other=0.0)
    over = latent if OVER == 0 else OVER
    tl.store(target_pointer + start + places, row * tl.rsqrt(tl.sum(row * row) / over + 1e-6), mask=places < latent)


def normalise(mean, over=0):
    target = torch.empty_like(mean)
    rows, latent = mean.shape
    normalise_kernel[(rows,)](mean, target, latent, BLOCK=triton.next_power_of_2(latent), OVER=over)
    return target


def by_block(mean):
    return normalise(mean, triton.next_power_of_2(mean.shape[1]))


def noise(mean, spread, generator):
    return sigma_sample(unit_rms(mean), spread, generator)


def step(x, velocity, time, size, noise):
    growth = (1 - time) / time
    score = (time * velocity - x) / (1 - time)
    return x + size * (velocity + growth * score) + math.sqrt(2 * growth * size) * noise


def spoilt_step(score=1.0, factor=2.0, root=0.5):
    def spoilt(x, velocity, time, size, noise):
        growth = (1 - time) / time
        drifted = velocity + score * growth * (time * velocity - x) / (1 - time)
        return x + size * drifted + math.sqrt(factor * growth) * size**root * noise

    return spoilt


def per_token(mean, spread, generator):
    drawn = torch.randn(*mean.shape[:2], 1, dtype=mean.dtype, generator=generator)
    return unit_rms(mean) + spread / 0.8 * drawn * torch.randn(mean.shape, dtype=mean.dtype, generator=generator)


def one_spread(mean, spread, generator):
    return unit_rms(mean) + spread * torch.randn(mean.shape, dtype=mean.dtype, generator=generator)


def summed(mean, gradient):
    root = torch.rsqrt(mean.square().mean(-1, keepdim=True) + 1e-6)
    latent = mean * root
    return root * (gradient - latent * (gradient * latent).sum(-1, keepdim=True))


def rms(mean):
    return mean.square().mean(-1, keepdim=True).sqrt()


def over_all(mean, target):
    mean, target = (each / each.square().mean().sqrt() for each in (mean, target))
    return (mean - target).square().mean()


TIMES = time_grid(249, SAMPLE_SHIFT, FIRST, LAST)
BLOWN = (TIMES[1] / TIMES[0] - 2).item()
SOLVED = {
    "autoencoders.radius": 32**0.5, "autoencoders.cosine": 1.0,
    "autoencoders.first_step": BLOWN, "autoencoders.directional": semantic_loss,
    "autoencoders.gradient": unit_rms_backward, "autoencoders.noise": noise, "autoencoders.shift": shifted,
    "autoencoders.step": step, "autoencoders.normalise": normalise,
}  # fmt: skip
MISTAKES = [
    ("autoencoders.radius", 1, "unit hypersphere of the text"),
    ("autoencoders.radius", 32, "the sum of the squares"),
    ("autoencoders.cosine", 0.5, "counts the angle twice"),
    ("autoencoders.cosine", 3, "one half, above zero"),
    ("autoencoders.first_step", 1, "x is multiplied by 1 - dt / t"),
    ("autoencoders.first_step", 0.4 * BLOWN, "The first time is shifted too"),
    ("autoencoders.directional", lambda m, t: semantic_loss(m, t) / 2, "That is 1 - cos"),
    ("autoencoders.directional", lambda m, t: semantic_loss(m, t) * m.shape[-1], "summed over the latent's numbers"),
    ("autoencoders.directional", lambda m, t: (m - t).square().mean(), "compared as they are"),
    ("autoencoders.directional", over_all, "each token's latent has its own"),
    ("autoencoders.directional", lambda m, t: 0.0, "Return a tensor of shape []; got float"),
    ("autoencoders.gradient", lambda m, g: g / rms(m), "taken for a constant"),
    ("autoencoders.gradient", lambda m, g: unit_rms_backward(m, g) * rms(m), "divide by the root mean square of m"),
    ("autoencoders.gradient", summed, "the mean of g z, not the sum"),
    ("autoencoders.noise", lambda m, s, g: unit_rms(noise(m, s, g)), "is not taken again"),
    ("autoencoders.noise", sigma_sample, "bring them to unit RMS first"),
    ("autoencoders.noise", one_spread, "draw one normal number per example"),
    ("autoencoders.noise", per_token, "the spread is drawn per example"),
    ("autoencoders.noise", lambda m, s, g: noise(m, 0.8 * s, g), "spread / 0.8 times a normal number"),
    ("autoencoders.shift", lambda t, s: shifted(t, 1 / s), "shifted the other way"),
    ("autoencoders.shift", lambda t, s: s * t, "The end must stay"),
    ("autoencoders.step", spoilt_step(score=0.0), "the drift is v + g · score"),
    ("autoencoders.step", spoilt_step(factor=1.0), "the 2 is missing"),
    ("autoencoders.step", spoilt_step(root=1.0), "the root of dt"),
    ("autoencoders.step", spoilt_step(factor=0.0), "The noise is missing"),
    ("autoencoders.normalise", unit_rms, "No Triton kernel was launched"),
    ("autoencoders.normalise", lambda m: normalise(m, 1), "the rows have length 1"),
    ("autoencoders.normalise", by_block, "not a block"),
    ("autoencoders.normalise", lambda m: normalise(m) / rms(m), "the root is missing"),
    ("autoencoders.normalise", lambda m: normalise(m.abs()), "is it m / rms(m)?"),
    ("autoencoders.shuffled", (0.2, 0.7), "are the images shuffled with them"),
    ("autoencoders.shuffled", (1.4, 0.2), "lies between -1 and 1"),
    ("autoencoders.shuffled", (0.1, 0.0), "train longer"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_open_exercise_s_stub_fails_and_an_honest_answer_passes():
    assert_solved("autoencoders.shuffled", (0.8, 0.1))
