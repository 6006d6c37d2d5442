"""The hidden cases of the exercises on autoencoders."""

import math

import torch

from effattn_core.autoencoders.flow import FIRST, LAST, SAMPLE_SHIFT, GaussianFlow, drift, shifted, time_grid
from effattn_core.autoencoders.sphere import EPSILON, directional, unit_rms, unit_rms_backward
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random

SHAPES = ((3, 16, 8), (1, 1, 32), (5, 4, 2))


def _random(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _not_a_tensor(found, shape):
    """A sentence if `found` is no tensor of this shape, else None."""
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != tuple(shape):
        got = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        return f"Return a tensor of shape {list(shape)}; got {got}."
    return None


@exercise("autoencoders.radius", level="pencil")
def radius(answer):
    """The length of a latent of 32 numbers at unit RMS."""
    return compare_number(
        answer,
        math.sqrt(32),
        [
            (1, "That is the unit hypersphere of the text; a root mean square of 1 makes the *mean* square 1."),
            (32, "That is the sum of the squares: the length is its root."),
            (1 / math.sqrt(32), "That is what one number would be on a sphere of radius 1."),
        ],
    )


@exercise("autoencoders.cosine", level="pencil")
def cosine(answer):
    """The mean squared difference of two latents of unit RMS at an angle of 60 degrees."""
    return compare_number(
        answer,
        1.0,
        [
            (0.5, "That is the cosine, or 1 - cos: the square counts the angle twice."),
            (8.0, "That is the sum over eight numbers: the loss takes the mean."),
            (3.0, "cos 60° is one half, above zero: they point to one side."),
        ],
    )


@exercise("autoencoders.first_step", level="pencil")
def first_step(answer):
    """How many times larger than what is asked the released sampler's state is after its first step: dt / t_0 - 1."""
    times = time_grid(249, SAMPLE_SHIFT, FIRST, LAST)
    now, after = times[0].item(), times[1].item()
    even = time_grid(249, 1.0, FIRST, LAST)
    return compare_number(
        answer,
        (after - now) / now - 1,
        [
            ((even[1] / even[0] - 2).item(), "The grid is shifted by 0.4, its first time as well."),
            ((after - now) / FIRST - 1, "The first time is shifted too: 0.4 times 1e-5."),
            (1.0, "The drift at t is 2 v - x / t: x is multiplied by 1 - dt / t, and t is far smaller than dt."),
        ],
        within=0.02,
    )


@exercise("autoencoders.directional", level="code")
def of_directions(function):
    """`function(mean, target)`: the semantic loss, a number."""
    for shape in SHAPES:
        mean, target = _random(shape), _random(shape, 1)
        wanted, found = directional(mean, target).mean(), function(mean.clone(), target.clone())
        if (reason := _not_a_tensor(found, ())) is not None:
            return reason
        if abs(found - wanted) <= 1e-5:
            if abs(function(10 * mean, target) - wanted) > 1e-4:
                return "An encoder ten times as large changes your loss: both are brought to unit RMS first."
            continue
        if abs(found - wanted / 2) <= 1e-5:
            return "That is 1 - cos: the mean squared difference of two latents of unit RMS is twice that."
        if abs(found - wanted * shape[-1]) <= 1e-4:
            return "The squares are summed over the latent's numbers: the loss is their mean."
        if abs(found - (mean - target).square().mean()) <= 1e-5:
            return "The latents are compared as they are: bring both to unit RMS first."
        whole = [each * torch.rsqrt(each.square().mean() + EPSILON) for each in (mean, target)]
        if abs(found - (whole[0] - whole[1]).square().mean()) <= 1e-5:
            return "One norm is taken over all tokens: each token's latent has its own."
        return f"At shape {list(shape)} the loss is {wanted:.4f}; got {found:.4f}."
    return None


@exercise("autoencoders.gradient", level="code")
def gradient(function):
    """`function(mean, gradient)`: dL/dm of z = m / rms(m), from dL/dz."""
    for shape in SHAPES:
        mean, upper = 3 * _random(shape), _random(shape, 1)
        wanted, found = unit_rms_backward(mean, upper), function(mean.clone(), upper.clone())
        if (reason := _not_a_tensor(found, shape)) is not None:
            return reason
        if torch.allclose(found, wanted, atol=1e-5):
            continue
        root = torch.rsqrt(mean.square().mean(-1, keepdim=True) + EPSILON)
        if torch.allclose(found, root * upper, atol=1e-5):
            return "The root mean square is taken for a constant: it depends on m, and takes the part along z away."
        if torch.allclose(found, wanted / root, atol=1e-5):
            return "The tangent is right; its length is not: divide by the root mean square of m."
        latent = mean * root
        if torch.allclose(found, root * (upper - latent * (upper * latent).sum(-1, keepdim=True)), atol=1e-5):
            return "z has a squared length of its size, not 1: the part along it is the mean of g z, not the sum."
        return f"At shape {list(shape)} it differs; what is left along m should be none."
    return None


@exercise("autoencoders.noise", level="code")
def noise(function):
    """`function(mean, spread, generator)`: unit RMS, then noise of one drawn spread per example."""
    mean, spread = 5 * _random((400, 16, 32)), 0.2
    found = function(mean.clone(), spread, torch.Generator().manual_seed(0))
    if (reason := _not_a_tensor(found, mean.shape)) is not None:
        return reason
    added = found - unit_rms(mean)
    if (found.square().mean(-1) - 1).abs().max() < 1e-3:
        return "The noisy latents have unit RMS: the norm comes before the noise and is not taken again."
    if (found - mean).square().mean() < added.square().mean():
        return "The noise is added to the means as they are: bring them to unit RMS first."
    each = added.square().mean((1, 2)).sqrt()
    if added.square().mean(2).sqrt().std(1).mean() > 0.5 * each.mean():
        return "Tokens of one image have different spreads: the spread is drawn per example."
    if each.std() < 0.2 * each.mean():
        return "All examples have noise of one spread: draw one normal number per example and multiply by it."
    if abs(each.mean() / spread - 1) > 0.15:
        return f"The mean spread is {each.mean():.3f}; spread / 0.8 times a normal number gives {spread}."
    return None


@exercise("autoencoders.shift", level="code")
def shift(function):
    """`function(time, shift)`: s t / (1 + (s - 1) t)."""
    times = torch.linspace(0, 1, 9, dtype=torch.float64)
    for amount in (1.0, 0.4, 0.7, 3.0):
        found, wanted = function(times.clone(), amount), shifted(times, amount)
        if (reason := _not_a_tensor(found, wanted.shape)) is not None:
            return reason
        if torch.allclose(found, wanted, atol=1e-9):
            continue
        if torch.allclose(found, shifted(times, 1 / amount), atol=1e-9):
            return "It is shifted the other way: below 1, more of the times go to the noise, which is at t = 0."
        if abs(found[-1] - 1) > 1e-9:
            return f"The end must stay: t = 1 went to {found[-1]:.3f}."
        return f"With shift {amount} it differs: t = 0.5 goes to {wanted[4]:.4f}, got {found[4]:.4f}."
    return None


@exercise("autoencoders.step", level="code")
def step(function):
    """`function(x, velocity, time, step, noise)`: one step of the Euler-Maruyama walk."""
    law = GaussianFlow()
    for time, size in ((0.5, 0.01), (0.1, 0.02), (0.9, 0.005)):
        x, drawn = _random((40,)), _random((40,), 7)
        velocity, growth = law.velocity(x, time), (1 - time) / time
        moved = x + size * drift(velocity, x, time)
        wanted = moved + math.sqrt(2 * growth * size) * drawn
        found = function(x.clone(), velocity.clone(), time, size, drawn.clone())
        if (reason := _not_a_tensor(found, x.shape)) is not None:
            return reason
        if torch.allclose(found, wanted, atol=1e-9):
            continue
        if torch.allclose(found, x + size * velocity + (wanted - moved), atol=1e-9):
            return "Noise is added and nothing takes it off: the drift is v + g · score, not v."
        if torch.allclose(found, moved + math.sqrt(growth * size) * drawn, atol=1e-9):
            return "The noise has variance 2 g dt: the 2 is missing."
        if torch.allclose(found, moved + math.sqrt(2 * growth) * size * drawn, atol=1e-9):
            return "The noise grows with the root of dt, not with dt."
        if torch.allclose(found, moved, atol=1e-9):
            return "The noise is missing: the drift alone takes more noise off than there is."
        return f"At t = {time} the step differs: score (t v - x) / (1 - t), g = (1 - t) / t."
    return None


@kernel_exercise("autoencoders.normalise")
def normalise():
    """`function(mean)`: the launcher of a kernel that brings each row of [rows, latent] to unit RMS."""

    def case(rows, latent):
        mean = 3 * random(rows, latent)
        source, lanes = mean.double(), 1 << (latent - 1).bit_length()
        squares, over = source.square().sum(-1, keepdim=True), f"the mean is over {latent}, not a block."
        length = "the rows have length 1: divide by the root of the *mean* square, which makes it the root of the size."
        mistakes = [
            (source / (squares + EPSILON).sqrt(), length),
            (source / (squares / lanes + EPSILON).sqrt(), f"the direction is right, the length not: {over}"),
            (source / (squares / latent + EPSILON), "the direction is right, the length not: the root is missing."),
        ]
        mistakes = [(result.float(), sentence) for result, sentence in mistakes]
        what, wanted = f"mean [{rows}, {latent}]", unit_rms(source).float()
        return Case(what, (mean,), wanted, mistakes=mistakes, hint="is it m / rms(m)?")

    return [case(*sizes) for sizes in ((5, 8), (33, 24), (1, 130), (17, 32))]


@exercise("autoencoders.shuffled", level="open")
def shuffled(answer):
    """(mean cosine to its targets of a tokeniser trained on them, of one trained on targets of other images)."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return f"Two mean cosines are asked, with its own targets and with those of other images; you gave {answer!r}."
    own, other = answer
    if not all(-1 <= each <= 1 for each in answer):
        return "A cosine lies between -1 and 1: divide by both lengths."
    if own <= other:
        return "Shuffled targets are followed as well as its own: are the images shuffled with them?"
    if own < 0.3:
        return "Its own targets are hardly followed: train longer, or give the semantic loss more weight."
    return None
