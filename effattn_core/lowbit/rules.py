"""One step of an optimizer on rows of blocks: decode the states, update in float32, encode them again.

Pure functions of tensors: the optimizers call them tile by tile, `torch.compile` takes them whole, and the fused
kernel does the same operations in the same order.
"""

from typing import NamedTuple

import torch

from effattn_core.lowbit import philox
from effattn_core.lowbit.quantisers import Quantiser

LARGEST = 1.8e19  # a gradient beyond it overflows when squared, and counts as 0, as NaN does
FIRST, SECOND, WEIGHT = 0, 1, 2  # what random numbers are drawn for


class Stored(NamedTuple):
    """A state of rows. values: float32 [rows, block] where it is kept whole; else codes, scale, slope."""

    values: torch.Tensor | None = None
    codes: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    slope: torch.Tensor | None = None


class Rows(NamedTuple):
    """Where rows stand. counts: int64 [rows], elements; first: int64 [rows], the place of each row's first among all
    elements of its parameter; seeds: int64 [purposes, rows]; aligned: whether every `first` is a multiple of 4."""

    counts: torch.Tensor
    first: torch.Tensor
    seeds: torch.Tensor
    aligned: bool


class Rates(NamedTuple):
    """The numbers of a step of AdamW or SGD, as Python floats or float32 scalars.

    AdamW: keep, what weight decay leaves of a weight, 1 - rate · decay; mix, 1 - β of each moment; size, the rate over
    1 - β1**t; root, sqrt(1 - β2**t); eps. SGD: keep, the decay itself, which joins the gradient; mix, (β,); size, the
    rate; root and eps are not read.
    """

    keep: float
    mix: tuple
    size: float
    root: float
    eps: float


def contained(gradient):
    """(gradient in float32 with zeros for what is NaN, infinite or too large to square; how many those were)."""
    gradient = gradient.float()
    sound = gradient.abs() < LARGEST
    return torch.where(sound, gradient, 0.0), (~sound).sum()


def adamw(weight, gradient, moments, rates):
    """AdamW's step in float32: (weight, (m, v)) (eq. lowbit-step). The weight moves by the moments not yet encoded."""
    first, second = moments
    weight = weight * rates.keep
    first = first + rates.mix[0] * (gradient - first)
    second = second + rates.mix[1] * (gradient * gradient - second)
    return weight - rates.size * (first / (second.sqrt() / rates.root + rates.eps)), (first, second)


def momentum(weight, gradient, moments, rates):
    """SGD with momentum as torch.optim.SGD has it: (weight, (m,)), m = β m + g, weight decay added to the gradient."""
    gradient = gradient + rates.keep * weight
    first = rates.mix[0] * moments[0] + gradient
    return weight - rates.size * first, (first,)


def step_rows(rule, weight, gradient, stored, quantisers, rows, rates, dtype=torch.float32):
    """One step of `rule` on rows: (weight in `dtype`, stored, gradients that did not count).

    weight, gradient: floating [rows, block], zeros after a row's end; stored: a Stored per moment; quantisers: a
    Quantiser per moment, None for one that stays in float32; rates: Rates.
    bfloat16 weights are rounded at random, others to the nearest.
    """
    gradient, strange = contained(gradient)
    # What a short last block has not is 0: its codes of 0 would decode to a level, and count in the new scale.
    inside = torch.arange(weight.shape[-1], device=weight.device) < rows.counts[:, None]
    moments = [torch.where(inside, decoded(each, how), 0.0) for each, how in zip(stored, quantisers, strict=True)]
    weight, moments = rule(weight.float(), gradient, moments, rates)
    kept = tuple(
        encoded(each, how, rows, purpose) for purpose, (each, how) in enumerate(zip(moments, quantisers, strict=True))
    )
    if dtype == torch.bfloat16:
        word = philox.element_words(rows.seeds[WEIGHT], rows.first, weight.shape[-1], aligned=rows.aligned)
        return rounded_to_bfloat16(weight, word), kept, strange
    return weight.to(dtype), kept, strange


def decoded(stored: Stored, quantiser: Quantiser | None):
    """The float32 values of a state."""
    if quantiser is None:
        return stored.values
    return quantiser.to_values(stored.codes, stored.scale, stored.slope)


def encoded(values, quantiser: Quantiser | None, rows: Rows, purpose: int):
    """Stored of new values; rounding draws by each element's place, for this purpose."""
    if quantiser is None:
        return Stored(values=values)
    drawn = None
    if quantiser.random:
        drawn = philox.uniforms(rows.seeds[purpose], rows.first, values.shape[-1], aligned=rows.aligned)
    codes, scale, slope = quantiser.to_codes(values, rows.counts, drawn)
    return Stored(None, codes, scale, slope)


def rounded_to_bfloat16(values, words):
    """float32 to bfloat16, up or down at random so that the mean is kept: 16 random bits are added below the cut.

    words: int64 of the values' shape, of which the low 16 bits count. NaN and inf stay what they are, and no finite
    number becomes inf.
    """
    bits = values.view(torch.int32)
    drawn = ((bits + (words & 0xFFFF).int()) & -65536).view(torch.float32)
    drawn = torch.where(drawn.isfinite(), drawn, (bits & -65536).view(torch.float32))
    return torch.where(values.isfinite(), drawn, values).to(torch.bfloat16)
