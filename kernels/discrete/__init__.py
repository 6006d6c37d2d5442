"""A layer of rules as Triton kernels: hard answer and soft sum in one sweep over the weights, and the sum's slope.

`operators` registers `effattn::rule_sums`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.discrete.sweep import (
    BLOCK_INPUT,
    BLOCK_NODE,
    BLOCK_ROW,
    SLOPE_INPUT,
    SLOPE_NODE,
    launch_slope,
    launch_sweep,
)
from kernels.sanitize import scattered

__all__ = [
    "BLOCK_INPUT",
    "BLOCK_NODE",
    "BLOCK_ROW",
    "SLOPE_INPUT",
    "SLOPE_NODE",
    "example_launches",
    "launch_slope",
    "launch_sweep",
    "ragged_launches",
]

MATRIX_KERNELS = ("sweep_kernel",)


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """A sweep and a slope over 4 · head_dim literals, by φ and by the logarithm: a batch has more rows, or nodes."""
    like = dict(dtype=dtype, device=device)
    violated = torch.zeros(64 * batch, 4 * head_dim, dtype=torch.uint8, device=device)
    weight, more = torch.zeros(4 * head_dim, 128, **like), torch.zeros(4 * head_dim, 128 * batch, **like)
    grad = torch.zeros(64, 128 * batch, device=device)
    for stretched in (False, True):
        launch_sweep(violated, weight, 0.9, 3.0, stretched)
        launch_slope(violated[:64], more, grad, 0.9, 3.0, stretched)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over rows, literals and nodes that no tile divides, in views with gaps."""
    for rows, inputs, nodes in ((1, 1, 1), (BLOCK_ROW + 3, BLOCK_INPUT + 5, BLOCK_NODE + 1), (7, SLOPE_INPUT + 2, 33)):
        violated = (scattered(rows, inputs, device=device) > 0).to(torch.uint8)
        weight = scattered(inputs, nodes, dtype=dtype, device=device)
        grad = scattered(rows, nodes, device=device)
        for stretched in (False, True):
            given = (0.9, 3.0, stretched)
            what = f"{rows} rows, {inputs} literals, {nodes} nodes, {'stretched' if stretched else 'logarithm'}"
            yield f"{what}, sweep", partial(launch_sweep, violated, _unit(weight), *given)
            yield f"{what}, slope", partial(launch_slope, violated, _unit(weight), grad, *given)


def _unit(weight):
    """The same view with its numbers in [0, 1]: a weight is clipped there after each step."""
    return weight.abs_().clamp_(max=1)
