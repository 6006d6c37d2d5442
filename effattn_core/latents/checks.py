"""The hidden cases of the exercises on latents."""

import functools
import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random
from effattn_core.latents.costs import code_bits, latent_bits
from effattn_core.latents.exact import Gaussian, Mixture, distance, normal_quantiles
from effattn_core.latents.head import head_oracle
from effattn_core.latents.samplers import ddim_step, dpmpp_2m_step, even_grid, grid, sample
from effattn_core.latents.schedule import cosine

SHARE, STEPS = 0.17, 20  # of the head in the backbone's weights; of the sampler
CLOSE = 0.01  # a Wasserstein distance


@exercise("latents.saving", level="pencil")
def saving(answer):
    """Operations of a whole-image Transformer over those of backbone and head, P_H / P_B = 0.17, 20 steps."""
    return compare_number(
        answer,
        1 / (1 / STEPS + SHARE),
        [
            (STEPS, "That leaves the head out: it runs at every step of every latent."),
            (1 / (1 + SHARE), "Per step only? The whole-image model runs at all 20 steps, the backbone once."),
            (1 / SHARE, "That leaves the backbone out: its one pass per latent is 1/20 of the other's 20."),
            (1 / STEPS + SHARE, "That is the share that is left; the factor is its inverse."),
        ],
    )


@exercise("latents.amplified", level="pencil")
def amplified(answer):
    """By what an error of ε is multiplied in the clean latent at t = 999."""
    schedule = cosine()
    alpha, sigma = schedule.alpha[-1].item(), schedule.sigma[-1].item()
    return compare_number(
        answer,
        sigma / alpha,
        [
            (alpha / sigma, "Turned round: x = (x_t - σ ε) / α, so an error of ε is divided by α."),
            (sigma, "That is what v prediction multiplies its error by; ε prediction divides by α as well."),
            ((sigma / alpha) ** 2, "That is the noise over the signal in power; an error is multiplied by its root."),
        ],
    )


@exercise("latents.bits", level="pencil")
def bits(answer):
    """(bits of 16 latents of 8 numbers in 16 bits, bits of 16 codes out of 128)."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "Two numbers are asked: bits of the latents, bits of the codes."
    wrong = compare_number(answer[0], latent_bits(16, 8), [(16 * 8, "That counts the numbers; each has 16 bits.")])
    if wrong:
        return f"Latents: {wrong}"
    wrong = compare_number(
        answer[1],
        code_bits(16, 128),
        [(16 * 128, "A code out of 128 takes log2(128) bits, not 128."), (7, "That is one code; an image has 16.")],
    )
    return f"Codes: {wrong}" if wrong else None


@exercise("latents.solver", level="code")
def solver(function):
    """`function(noisy, clean, before, past, now, after)`: one step of DPM-Solver++(2M)."""
    noisy, clean, before = torch.randn(3, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    places = [(0.2, math.sqrt(1 - 0.04)), (0.3, math.sqrt(1 - 0.09)), (0.7, math.sqrt(1 - 0.49))]
    first = function(noisy.clone(), clean.clone(), None, None, *places[1:])
    if not isinstance(first, torch.Tensor) or first.shape != noisy.shape:
        return f"Return the next noisy latent, {tuple(noisy.shape)}."
    if not torch.allclose(first, ddim_step(noisy, clean, *places[1:]), atol=1e-9):
        return "Without a step before it, it must be of order 1: σ'/σ x - α' (e^-h - 1) D, which is DDIM's."
    last = function(noisy.clone(), clean.clone(), before.clone(), places[0], places[1], (1.0, 0.0))
    if not torch.allclose(last, clean, atol=1e-9):
        return "The last step, to σ' = 0, answers D itself: e^-h is 0 there, and ln σ' is not finite."
    found = function(noisy.clone(), clean.clone(), before.clone(), *places)
    if torch.allclose(found, first, atol=1e-9):
        return "The D of the step before changes nothing yet: D + (D - D_before) / (2 r)."
    wanted = dpmpp_2m_step(noisy, clean, before, *places)
    if not torch.allclose(found, wanted, atol=1e-9):
        lam = [math.log(alpha / sigma) for alpha, sigma in places]
        ratio = (lam[1] - lam[0]) / (lam[2] - lam[1])
        if torch.allclose(found, first + (wanted - first) * ratio**2, atol=1e-9):
            return "r is turned: r = h_before / h, the step before over this one."
        if torch.allclose(found, 2 * first - wanted, atol=1e-9):
            return "The correction has the wrong sign: it goes on in the direction of D - D_before."
        return "The second-order step differs: r = h_before / h, and D + (D - D_before) / (2 r) in place of D."
    return None


@exercise("latents.sigma", level="code")
def sigma(function):
    """`function(mean, spread)`: a latent of the σ-VAE, [batch, tokens, latent]."""
    torch.manual_seed(0)
    mean = torch.zeros(4000, 16, 8, dtype=torch.float64)
    drawn = function(mean.clone(), 0.75)
    if not isinstance(drawn, torch.Tensor) or drawn.shape != mean.shape:
        return f"Return latents of the shape of the means, {tuple(mean.shape)}."
    scales = drawn.square().mean((1, 2)).sqrt()
    if scales.max() == 0:
        return "No noise is added."
    if drawn.std((1, 2)).max() < 1e-6:
        return "One number is added to a whole example: the scale is per example, the noise per element."
    if scales.std() < 0.2 * scales.mean():
        return "Every example has about one scale: σ_b is drawn per example, or its spread would be fixed."
    within = drawn.reshape(len(drawn), -1)
    halves = within[:, :64].square().mean(1).sqrt(), within[:, 64:].square().mean(1).sqrt()
    if torch.corrcoef(torch.stack(halves))[0, 1] < 0.9:
        return "The scale changes inside an example: draw one number per example, of shape [batch, 1, 1]."
    if abs(scales.mean().item() / 0.75 - 1) > 0.05:
        if abs(scales.mean().item() / (0.8 * 0.75) - 1) < 0.05:
            return "The mean scale is 0.8 of `spread`: E|n| of a normal n is 0.8, so divide by it."
        return f"The mean of |σ_b| is {scales.mean():.2f}; `spread` is 0.75."
    kurtosis = (drawn.pow(4).mean() / drawn.square().mean() ** 2).item()
    if abs(kurtosis - 9) > 1.5:
        return f"Pooled, a product of two normals has kurtosis 9; yours has {kurtosis:.1f}. Is σ_b normal?"
    leaf = torch.randn(5, 3, 2, dtype=torch.float64, requires_grad=True)
    moved = function(leaf, 0.75)
    if not moved.requires_grad or not torch.allclose(torch.autograd.grad(moved.sum(), leaf)[0], torch.ones_like(leaf)):
        return "The gradient must pass to the mean with factor 1: z = μ + σ_b ε."
    return None


@exercise("latents.draws", level="code")
def draws(function):
    """`function(backbone, head, inputs, latents, draws)`: the loss with several draws per pass of the backbone.

    backbone(inputs) -> conditions [batch, tokens, width]; head(noisy, time, condition) -> v, of rows in any order.
    """
    schedule, calls, times = cosine(), [], []
    latents = torch.randn(6, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def backbone(inputs):
        calls.append(inputs.shape)
        return inputs

    def perfect(noisy, time, condition):
        times.append(time)
        alpha, sigma = schedule.at(time, noisy)
        return alpha * (noisy - alpha * condition) / sigma - sigma * condition

    torch.manual_seed(0)
    loss = function(backbone, perfect, latents.clone(), latents.clone(), 4)
    if not isinstance(loss, torch.Tensor) or loss.ndim:
        return "Return the loss, one number."
    if len(calls) != 1:
        return f"The backbone ran {len(calls)} times: its answer is repeated, it is not asked again."
    seen = torch.cat([each.reshape(-1) for each in times])
    if len(seen) != 4 * 6 * 5:
        return f"The head saw {len(seen)} times; 4 draws of 30 latents have 120, one for each latent and draw."
    if len(seen.unique()) < 60:
        return f"Only {len(seen.unique())} of 120 times differ: t is drawn per latent, not per image or per draw."
    if loss > 1e-9:
        return (
            "A head that knows the answer has a loss above 0: are conditions, latents, noises and times of one row "
            "together, and is the target v = α ε - σ x?"
        )
    zero = function(backbone, lambda noisy, time, condition: torch.zeros_like(noisy), latents, 3 * latents, 64)
    wanted = 9 * latents.square().mean() * (schedule.sigma**2).mean() + (schedule.alpha**2).mean()
    if not 0.8 < (zero / wanted).item() < 1.25:
        return f"With a head that answers 0 the loss is {zero:.2f}, and E[v²] is {wanted:.2f}: a mean over all numbers?"
    return None


@exercise("latents.block", level="code")
def block(function):
    """`function(hidden, modulation, gate_matrix, up_matrix, down_matrix)`: one block of the head."""
    generator = torch.Generator().manual_seed(2)
    for rows, width, inner in ((5, 16, 24), (1, 8, 8)):
        hidden = 3 * torch.randn(rows, width, dtype=torch.float64, generator=generator)
        modulation = torch.randn(rows, 3 * width, dtype=torch.float64, generator=generator)
        matrices = [
            torch.randn(shape, dtype=torch.float64, generator=generator) / 4
            for shape in ((inner, width), (inner, width), (width, inner))
        ]
        wanted = head_oracle(hidden, modulation, *matrices)
        found = function(hidden.clone(), modulation.clone(), *matrices)
        if not isinstance(found, torch.Tensor) or found.shape != wanted.shape:
            return f"Return [rows, width], {tuple(wanted.shape)}."
        if torch.allclose(found, wanted, atol=1e-8):
            continue
        shift, scale, gate = modulation.chunk(3, -1)
        if torch.allclose(found, wanted - hidden, atol=1e-8):
            return "The residual is missing: u + gate ⊙ …"
        for given, sentence in (
            ((shift, scale - 1, gate), "The scale is 1 + scale, so that a modulation of 0 changes nothing."),
            ((scale, shift, gate), "Shift and scale are exchanged: shift comes first."),
            ((shift, scale, torch.ones_like(gate)), "The gate is missing: at its start of 0 a block is the identity."),
        ):
            if torch.allclose(found, head_oracle(hidden, torch.cat(given, -1), *matrices), atol=1e-8):
                return sentence
        return f"With {rows} rows of {width} numbers it differs by {(found - wanted).abs().max():.2g}."
    return None


@exercise("latents.guide", level="code")
def guide(function):
    """`function(conditional, unconditional, weight)`: a denoiser (noisy, time, α, σ) -> D, guided."""
    with_class, without = Gaussian(0.8, 1.0), Gaussian(-0.4, 1.0)
    start, line = normal_quantiles(501), grid(cosine(), 40)
    for weight in (1.0, 0.0, 2.5):
        made = function(with_class.denoise, without.denoise, weight)
        if not callable(made):
            return "Return a function: a denoiser made of two."
        mean = sample(made, start, line).mean().item()
        wanted = -0.4 + weight * 1.2
        if abs(mean - wanted) < 5e-3:
            continue
        if abs(mean - (0.8 + weight * 1.2)) < 5e-3:
            return "Weight 1 is no guidance: u + w (c - u), not c + w (c - u)."
        if abs(mean - (0.8 - weight * 1.2)) < 5e-3:
            return "The two are exchanged: from the unconditional answer towards the conditional one."
        return f"With weight {weight:g} the mean is {mean:.2f}; of two unit normals it is {wanted:.2f}."
    return None


@kernel_exercise("latents.modulate")
def modulate():
    """`function(hidden, modulation)`: the launcher of a kernel, RMS(hidden) ⊙ (1 + scale) + shift."""

    def case(rows, width):
        hidden, modulation = 4 * random(rows, width), random(rows, 2 * width)
        source, (shift, scale) = hidden.double(), modulation.double().chunk(2, -1)
        squares, lanes = source.square().sum(-1, keepdim=True), 1 << (width - 1).bit_length()

        def normed(over):
            return source / (squares / over + 1e-6).sqrt()

        padded = f"the mean square is over the {lanes} lanes of the block; a row has {width} numbers."
        mistakes = [
            (source * (1 + scale) + shift, "the rows are not normed: divide by the root of their mean square first."),
            (normed(lanes) * (1 + scale) + shift, padded),
            (normed(width) * (1 + shift) + scale, "shift is a row's first half, scale its second."),
        ]
        wanted, hint = normed(width) * (1 + scale) + shift, "is it the normed row times 1 + scale, plus shift?"
        mistakes = [(result.float(), sentence) for result, sentence in mistakes]
        what = f"hidden [{rows}, {width}]"
        return Case(what, (hidden, modulation), wanted.float(), mistakes=mistakes, hint=hint)

    return [case(*sizes) for sizes in ((5, 32), (33, 40), (1, 130))]


@functools.cache
def fewest_steps(sampler="2m", close=CLOSE):
    """The fewest steps with which a sampler draws the mixture to a Wasserstein distance below `close`."""
    mixture, start = Mixture(), normal_quantiles(1001)
    wanted = mixture.quantile(torch.special.ndtr(start))
    for steps in range(1, 200):
        if distance(sample(mixture.denoise, start, grid(cosine(), steps), sampler=sampler), wanted) < close:
            return steps
    return None


@exercise("latents.few", level="open")
def few(answer):
    """The fewest steps of 2M with which the mixture is drawn to a Wasserstein distance below 0.01."""
    if callable(answer):
        return "A number is asked: the fewest steps."
    best = fewest_steps()
    return compare_number(
        answer,
        best,
        [(fewest_steps("ddim"), "That is DDIM's; the solver of second order needs far fewer.")],
        within=0.1,
    )


def observed_order(step, steps=40):
    """The order that a `latents.solver` shows on the Gaussian between `steps` steps and twice as many."""
    gaussian, errors = Gaussian(), []
    for count in (steps, 2 * steps):
        line = even_grid(count)
        places = list(zip(line.alpha.tolist(), line.sigma.tolist(), strict=True))
        start = normal_quantiles(501) * math.hypot(places[0][0] * gaussian.spread, places[0][1])
        noisy, before, past = start + places[0][0] * gaussian.mean, None, None
        wanted = gaussian.flow(noisy, places[0], places[-1])
        for now, after in zip(places, places[1:], strict=False):
            clean = gaussian.denoise(noisy, 0, *now)
            noisy, before, past = step(noisy, clean, before, past, now, after), clean, now
        errors.append((noisy - wanted).square().mean().sqrt().item())
    return math.log2(errors[0] / errors[1])
