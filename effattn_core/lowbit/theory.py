"""Why few bits fail, and from where on: swamping, the noise that momentum enlarges, the bias of a rounded logarithm.

Statements are those of SOLO (arXiv 2505.00347): theorems 3.1 and 3.6, propositions 3.4 and 3.5, and its momentum rule.
Thresholds here are found by experiment, with the quantisers themselves, and closed forms stand beside them.
"""

import math

import torch

from effattn_core.calls import require_count
from effattn_core.lowbit import philox
from effattn_core.lowbit.levels import levels, midpoints
from effattn_core.lowbit.quantisers import Quantiser

# The momentum rule as the paper prints it, β = 0.9: bits after -> {bits before: β'}.
PRINTED_MOMENTUM = {
    4: {8: 0.350, 7: 0.518, 6: 0.695, 5: 0.820},
    3: {8: 0.211, 7: 0.348, 6: 0.531, 5: 0.694},
    2: {8: 0.116, 7: 0.207, 6: 0.357, 5: 0.527},
}
# The radii from which that table follows: the exact ones to three decimals, 0.0675 rounded down.
PRINTED_RADII = {2: 0.275, 3: 0.135, 4: 0.067, 5: 0.034, 6: 0.017, 7: 0.008, 8: 0.004}
# Theorem 3.1's thresholds as printed: kind -> {bits: β}; for "exponent" of half the levels.
PRINTED_FREEZING = {
    "linear_zero": {2: 0.833, 3: 0.929, 4: 0.967, 8: 0.999},
    "exponent": {2: 0.837, 3: 0.933, 4: 0.966, 8: 0.998},
}


def require_beta(beta: float) -> None:
    """Raise ValueError unless 0 <= beta < 1."""
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be from 0 to under 1; it is {beta!r}.")


def _nearest(table, values):
    """The code of the nearest level, a tie up: by the search that the quantisers' comparisons amount to."""
    return torch.bucketize(values, midpoints(table), right=True)


def frozen(kind: str, bits: int, beta: float, *, signals=(0.0, 1.0), signed: bool = False) -> torch.Tensor:
    """Which levels an average of decay `beta` cannot leave, bool [2**bits], whatever of `signals` it is given.

    The scale stays; the average β y + (1 - β) z of a level y and a signal z, over the scale, is rounded to the nearest
    level, and is frozen if that is y again for each z (eq. lowbit-swamping).
    """
    require_beta(beta)
    table = levels(kind, bits, signed=signed)
    own = torch.arange(len(table))
    return torch.stack([_nearest(table, beta * table + (1 - beta) * z) == own for z in signals]).all(0)


def freezing_threshold(
    kind: str, bits: int, *, share: float = 1.0, signals=(0.0, 1.0), signed: bool = False, within: float = 1e-9
) -> float:
    """The least β at which a `share` of the levels is frozen, found by bisection over `frozen`."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1; it is {share!r}.")
    low, high = 0.0, 1.0 - 1e-15
    while high - low > within:
        middle = (low + high) / 2
        stuck = frozen(kind, bits, middle, signals=signals, signed=signed).double().mean().item()
        low, high = (low, middle) if stuck >= share else (middle, high)
    return high


def sufficient_threshold(kind: str, bits: int) -> float:
    """What theorem 3.1 gives, as the paper evaluates it: 1 - r, r the median of half the gaps between levels.

    Sufficient, not sharp: a level between the ends has no signal a whole scale away.
    """
    return 1 - median_half_gap(kind, bits, signed=False)


def median_half_gap(kind: str, bits: int, *, signed: bool = True) -> float:
    """The median of half the gaps between neighbouring levels."""
    return (levels(kind, bits, signed=signed).diff() / 2).median().item()


def momentum_rule(bits: int, bits_before: int = 8, beta: float = 0.9, *, radius=None) -> float:
    """β' that makes no more noise at `bits` than `beta` does at `bits_before` (eq. lowbit-momentum).

    β'/(1 - β') · r(bits) = β/(1 - β) · r(bits_before), r the median half-gap of the signed exponent map. radius:
    another r, from bits; what the paper prints follows from PRINTED_RADII.
    """
    require_beta(beta)
    radius = radius or signed_radius
    ratio = beta / (1 - beta) * radius(bits_before) / radius(bits)
    return ratio / (1 + ratio)


def signed_radius(bits: int) -> float:
    """The median half-gap of the signed exponent map: exact for 2 to 8 bits, 0.275 · 2**... as a test holds."""
    require_count("bits", bits, 2)
    if bits > 8:
        raise ValueError(f"bits must be at most 8; it is {bits}.")
    return 0.275 if bits == 2 else 0.135 / 2 ** (bits - 3)


def variance_factor(beta: float, bits: int, *, radius: str = "median") -> float:
    """(β/(1 - β) · r)**2: the variance that stochastic rounding adds to a gradient, over the scale squared.

    radius: r is the "median" half-gap of the signed exponent map, or the "largest", of which theorem 3.6's bound is
    (eq. lowbit-variance).
    """
    require_beta(beta)
    if radius not in ("median", "largest"):
        raise ValueError(f"radius must be 'median' or 'largest'; it is {radius!r}.")
    largest = radius == "largest"
    half = (levels("exponent", bits, signed=True).diff() / 2).max().item() if largest else signed_radius(bits)
    return (beta / (1 - beta) * half) ** 2


def added_variance(beta: float, bits: int, *, samples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """(theorem 3.6's bound, the mean that is really added) for blocks of 128 normal numbers, in their variance.

    An element between levels a and b is rounded up with its fraction f of the way: variance f (1 - f) (b - a)**2.
    """
    require_beta(beta)
    require_count("samples", samples)
    table = levels("exponent", bits, signed=True)
    block = torch.randn(samples, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    scale = block.abs().amax(1, keepdim=True)
    share = (block / scale).clamp_min(table[0].item())
    below = (torch.bucketize(share, table, right=True) - 1).clamp(0, len(table) - 2)
    low, high = table[below], table[below + 1]
    fraction = (share - low) / (high - low)
    real = fraction * (1 - fraction) * ((high - low) * scale) ** 2
    factor = (beta / (1 - beta)) ** 2
    return variance_factor(beta, bits, radius="largest") * (scale**2).mean().item(), factor * real.mean().item()


def logarithm_bias(alpha: float, fraction: float) -> float:
    """E[stored] / value where a logarithm is rounded without bias, `fraction` of the way to the next level.

    ((1 - f) + f α) / α**f, at least 1: the mean of a rounded logarithm is right, that of the value too large.
    """
    if not 0 < alpha <= 1 or not 0 <= fraction <= 1:
        raise ValueError(f"alpha must be in (0, 1], fraction in [0, 1]; they are {alpha!r} and {fraction!r}.")
    return (1 - fraction + fraction * alpha) / alpha**fraction


def largest_logarithm_bias(alpha: float) -> float:
    """The largest `logarithm_bias` over fractions: (1 - α) α**(-1/(1 - α)) / (e ln(1/α)); 1 at α = 1."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be in (0, 1]; it is {alpha!r}.")
    if alpha == 1:
        return 1.0
    return (1 - alpha) * alpha ** (-1 / (1 - alpha)) / (math.e * math.log(1 / alpha))


def averaged(
    kind: str, bits: int | None, beta: float, *, steps: int = 100, elements: int = 1000, stochastic: bool = False,
    seed: int = 0,
) -> list[float]:  # fmt: skip
    """The mean of `elements` averages after each step, start 1, signals uniform on [0, 1]: true mean 1/2.

    bits: None for averages in float32. elements: a multiple of 8, one block. The paper's case study of swamping.
    """
    require_beta(beta)
    require_count("steps", steps)
    require_count("elements", elements)
    how = bits and Quantiser(kind, bits, signed=False, stochastic=stochastic, block=elements)
    dice = torch.Generator().manual_seed(seed)
    kept, counts, means = torch.ones(1, elements), torch.tensor([elements]), []
    for step in range(steps):
        kept = beta * kept + (1 - beta) * torch.rand(1, elements, generator=dice)
        if how:
            drawn = philox.uniforms(philox.derived(seed, step, 0, 0), 0, kept.numel()).view_as(kept)
            kept = how.to_values(*how.to_codes(kept, counts, drawn))
        means.append(kept.mean().item())
    return means


def fall(beta: float, alpha: float, levels_down: int, *, elements: int = 2000, seed: int = 0) -> float:
    """Steps that logarithmic levels take, in the mean, to fall `levels_down` levels with signals of zero, scale kept.

    With α = β**c each step crosses 1/c of a level, so that c · levels_down are expected (proposition 3.5).
    """
    require_beta(beta)
    require_count("levels_down", levels_down)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1; it is {alpha!r}.")
    part = math.log(beta) / math.log(alpha)  # of a level, per step
    dice = torch.Generator().manual_seed(seed)
    place, taken = torch.zeros(elements), torch.zeros(elements)
    while (going := place < levels_down).any():
        place += going * (part + torch.rand(elements, generator=dice)).floor()
        taken += going
    return taken.mean().item()
