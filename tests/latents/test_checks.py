"""The exercises on latents: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.latents import checks
from effattn_core.latents.head import head_oracle
from effattn_core.latents.samplers import ddim_step, dpmpp_2m_step
from effattn_core.latents.schedule import cosine


def sigma(mean, spread):
    return mean + spread / 0.8 * torch.randn(len(mean), 1, 1, dtype=mean.dtype) * torch.randn_like(mean)


def draws(backbone, head, inputs, latents, count, per_image=False, shuffled=False, often=False, times=None):
    conditions = backbone(inputs)
    if often:
        backbone(inputs)
    conditions = conditions.repeat_interleave(count, 0)
    latents = (latents.repeat(count, 1, 1) if shuffled else latents.repeat_interleave(count, 0)).flatten(0, 1)
    shape = conditions.shape[:2]
    time = torch.randint(1000, (shape[0], 1)).expand(shape) if per_image else torch.randint(1000, shape)
    time, noise, schedule = time.flatten(), torch.randn_like(latents), cosine()
    alpha, sigma = schedule.at(time, latents)
    output = head(alpha * latents + sigma * noise, time, conditions.flatten(0, 1))
    return (output - (alpha * noise - sigma * latents)).square().mean()


def guide(conditional, unconditional, weight):
    def denoise(*given):
        return unconditional(*given) + weight * (conditional(*given) - unconditional(*given))

    return denoise


def turned_ratio(noisy, clean, before, past, now, after):
    if before is None or after[1] == 0:
        return dpmpp_2m_step(noisy, clean, before, past, now, after)
    lam = [math.log(alpha / sigma) for alpha, sigma in (past, now, after)]
    ratio = (lam[1] - lam[0]) / (lam[2] - lam[1])
    mixed = clean + (clean - before) * ratio / 2
    return after[1] / now[1] * noisy - after[0] * math.expm1(lam[1] - lam[2]) * mixed


def only_first(noisy, clean, before, past, now, after):
    return clean if after[1] == 0 else ddim_step(noisy, clean, now, after)


def never_ends(noisy, clean, before, past, now, after):
    return 0.9 * clean if after[1] == 0 else dpmpp_2m_step(noisy, clean, before, past, now, after)


@triton.jit
def modulate_kernel(
    hidden_pointer, modulation_pointer, output_pointer,
    width, divisor,
    LANES: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """One program norms and modulates one row."""
    row, lane = tl.program_id(0), tl.arange(0, LANES)
    inside = lane < (width if MASKED else LANES)
    hidden = tl.load(hidden_pointer + row * width + lane, mask=inside, other=0.0)
    shift = tl.load(modulation_pointer + row * 2 * width + lane, mask=inside, other=0.0)
    scale = tl.load(modulation_pointer + row * 2 * width + width + lane, mask=inside, other=0.0)
    normed = hidden * tl.rsqrt(tl.sum(hidden * hidden) / divisor + 1e-6)
    tl.store(output_pointer + row * width + lane, normed * (1 + scale) + shift, mask=inside)


def modulate(hidden, modulation, padded=False, masked=True, rows=None):
    rows, width = rows or len(hidden), hidden.shape[1]
    lanes = 1 << (width - 1).bit_length()
    output = torch.empty_like(hidden)
    modulate_kernel[(rows,)](hidden, modulation, output, width, lanes if padded else width, LANES=lanes, MASKED=masked)
    return output


SOLVED = {
    "latents.saving": 1 / (1 / 20 + 0.17),
    "latents.amplified": 20290,
    "latents.bits": (2048, 112),
    "latents.solver": dpmpp_2m_step,
    "latents.sigma": sigma,
    "latents.draws": draws,
    "latents.block": head_oracle,
    "latents.guide": guide,
    "latents.modulate": modulate,
    "latents.few": checks.fewest_steps(),
}


def with_parts(change):
    def block(hidden, modulation, *matrices):
        return head_oracle(hidden, torch.cat(change(*modulation.chunk(3, -1)), -1), *matrices)

    return block


def unnormed(hidden, modulation):
    """By scales that take the norm back."""
    shift, scale = modulation.chunk(2, -1)
    root = (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return modulate(hidden, torch.cat([shift, (1 + scale) * root - 1], 1))


def modulated(hidden, modulation):
    shift, scale = modulation.chunk(2, -1)
    return hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + 1e-6) * (1 + scale) + shift


MISTAKES = [
    ("latents.saving", 20, "leaves the head out"),
    ("latents.saving", 0.22, "its inverse"),
    ("latents.amplified", 1.0, "what v prediction"),
    ("latents.bits", (128, 112), "Latents: That counts the numbers"),
    ("latents.bits", (2048, 2048), "log2(128)"),
    ("latents.bits", 3, "Two numbers are asked"),
    ("latents.solver", only_first, "changes nothing yet"),
    ("latents.solver", turned_ratio, "r is turned"),
    ("latents.solver", never_ends, "answers D itself"),
    ("latents.solver", lambda noisy, clean, *rest: clean, "must be of order 1"),
    ("latents.sigma", lambda mean, spread: mean + spread * torch.randn_like(mean), "about one scale"),
    ("latents.sigma", lambda mean, spread: mean + spread * (sigma(mean, 1.0) - mean) * 0.8, "0.8 of `spread`"),
    (
        "latents.sigma",
        lambda mean, spread: mean + spread * torch.randn(len(mean), 1, 1).double(),
        "One number is added",
    ),
    ("latents.sigma", lambda mean, spread: sigma(mean.detach(), spread), "must pass to the mean"),
    ("latents.draws", lambda *given: draws(*given, per_image=True), "per latent, not per image"),
    ("latents.draws", lambda *given: draws(*given, shuffled=True), "are conditions, latents"),
    ("latents.draws", lambda *given: draws(*given, often=True), "ran 2 times"),
    ("latents.draws", lambda *given: draws(*given[:4], 1), "4 draws of 30 latents"),
    ("latents.block", lambda *given: head_oracle(*given) - given[0], "residual is missing"),
    ("latents.block", with_parts(lambda shift, scale, gate: (shift, scale - 1, gate)), "1 + scale"),
    ("latents.block", with_parts(lambda shift, scale, gate: (scale, shift, gate)), "exchanged"),
    ("latents.block", with_parts(lambda shift, scale, gate: (shift, scale, gate**0)), "gate is missing"),
    ("latents.guide", lambda c, u, w: guide(c, u, 1 + w), "Weight 1 is no guidance"),
    ("latents.guide", lambda c, u, w: guide(u, c, w), "exchanged"),
    ("latents.modulate", lambda hidden, modulation: modulate(hidden, modulation, padded=True), "lanes of the block"),
    ("latents.modulate", lambda hidden, modulation: modulate(hidden, modulation, rows=4), "are never written"),
    ("latents.modulate", lambda hidden, modulation: modulate(hidden, modulation, masked=False), "outside"),
    ("latents.modulate", lambda hidden, m: modulate(hidden, m.roll(hidden.shape[1], 1)), "shift is a row's first half"),
    ("latents.modulate", lambda hidden, modulation: modulate(2 * hidden, 2 * modulation), "times 1 + scale, plus"),
    ("latents.modulate", unnormed, "are not normed"),
    ("latents.modulate", modulated, "No Triton kernel was launched"),
    ("latents.few", checks.fewest_steps("ddim"), "That is DDIM's"),
    ("latents.few", 3, "too small"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_order_that_an_answer_shows_is_that_of_its_method():
    assert checks.observed_order(dpmpp_2m_step) > 1.8
    assert 0.9 < checks.observed_order(only_first) < 1.1
