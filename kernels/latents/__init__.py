"""The diffusion head's step as Triton kernels: norm, modulation, gated unit and gated residual, forward and backward.

`operators` registers `effattn::head_step` with its gradient, and has the call, `head_step`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.latents.backward import (
    launch_gate_backward,
    launch_hidden_backward,
    launch_inner_backward,
    launch_norm_backward,
)
from kernels.latents.configurations import FEW, TABLE, WIDEST, Configuration, choose, whole_rows
from kernels.latents.forward import launch_down, launch_modulate, launch_sample, launch_up
from kernels.latents.weights import launch_merge, launch_weights
from kernels.sanitize import scattered

__all__ = [
    "FEW", "TABLE", "WIDEST", "Configuration", "choose", "example_launches", "launch_down", "launch_gate_backward",
    "launch_hidden_backward", "launch_inner_backward", "launch_merge", "launch_modulate", "launch_norm_backward",
    "launch_sample", "launch_up", "launch_weights", "ragged_launches", "whole_rows",
]  # fmt: skip

MATRIX_KERNELS = (
    "head_up_kernel", "head_sample_kernel", "head_down_kernel", "head_inner_backward_kernel",
    "head_hidden_backward_kernel", "head_weights_kernel",
)  # fmt: skip
SIZES = ((1, 40, 48), (70, 40, 80), (0, 40, 48))  # rows, width, hidden


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """A step of a head, forward and backward, for many rows (tokens times draws) and for few; and for few as a sampler
    has it.

    The gradient of the matrices has programs per tile of a matrix, not per row: with a batch its matrix grows. Passes
    over whole rows are of two widths: 512, and where head_dim is 128 the widest that they take. What keeps nothing for
    a gradient is not launched beside what does: it is the same code with fewer stores.
    """
    width, hidden = 8 * head_dim, 16 * head_dim
    widest = WIDEST if batch == 1 and head_dim == 128 else 512
    active = torch.zeros(hidden, width, dtype=dtype, device=device)
    down = active.mT.contiguous()
    for rows in (512 * batch, 16) if batch == 1 else (512 * batch,):
        u, whole = (torch.zeros(rows, each, dtype=dtype, device=device) for each in (width, widest))
        modulation, whole_modulation = (torch.zeros(rows, 3 * each, dtype=dtype, device=device)
                                        for each in (width, widest))  # fmt: skip
        _, root = launch_modulate(whole, whole_modulation)
        inner, products = launch_up(u, active, active, True)
        launch_down(inner, down, u, modulation, True)
        grad_modulation, _ = launch_gate_backward(whole, whole, whole_modulation)
        launch_norm_backward(whole, whole_modulation, root, whole, grad_modulation)
        _, grad_products = launch_inner_backward(u, down, products)
        launch_hidden_backward(grad_products, active, active, modulation)
        if rows <= FEW or batch > 1:
            launch_sample(u, modulation, active, active)
    wide = torch.zeros(512, max(2 * hidden, 32 * batch), dtype=dtype, device=device)
    launch_weights(wide, torch.zeros(512, width, dtype=dtype, device=device))
    launch_merge(torch.zeros(2, max(hidden, 8 * batch), width, device=device), dtype)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over sizes that no tile divides: few rows and many, one row and none."""
    for rows, width, hidden in SIZES:
        name = f"{rows} rows, {width} wide, {hidden} hidden"
        laid = partial(scattered, dtype=dtype, device=device)
        u, modulation, grad = laid(rows, width), laid(rows, 3 * width), laid(rows, width)
        active, linear, down = laid(hidden, width), laid(hidden, width), laid(width, hidden)
        yield f"{name}: modulation", partial(launch_modulate, u, modulation)
        modulated, root = launch_modulate(u, modulation)
        yield f"{name}: products, nothing kept", partial(_nothing_kept, modulated, active, linear)
        yield f"{name}: products", partial(launch_up, modulated, active, linear, True)
        inner, products = launch_up(modulated, active, linear, True)
        yield f"{name}: in one launch", partial(launch_sample, u, modulation, active, linear)
        yield f"{name}: output", partial(launch_down, inner, down, u, modulation, True)
        _, product = launch_down(inner, down, u, modulation, True)
        yield f"{name}: gate", partial(_gate_backward, grad, product, modulation)
        whole, grad_product = launch_gate_backward(grad, product, modulation)
        yield f"{name}: gated unit", partial(launch_inner_backward, grad_product, down, products)
        _, grads = launch_inner_backward(grad_product, down, products)
        yield f"{name}: products back", partial(_hidden_backward, grads, active, linear, whole)
        launch_hidden_backward(grads, active, linear, whole)
        yield f"{name}: norm back", partial(_norm_backward, u, modulation, root, grad, whole)
        yield f"{name}: weights", partial(launch_weights, grads, modulated)
        yield f"{name}: weights, split", partial(launch_weights, grads, modulated, 3)


def _nothing_kept(*arguments):
    return launch_up(*arguments, False)[0]


def _third(whole, number):
    """Of the modulation's gradient, which three launches write: shift, scale or gate."""
    return whole.chunk(3, 1)[number]


def _gate_backward(*arguments):
    whole, other = launch_gate_backward(*arguments)
    return _third(whole, 2), other


def _hidden_backward(*arguments):
    *arguments, whole = arguments
    return _third(launch_hidden_backward(*arguments, whole.clone()), 0)


def _norm_backward(*arguments):
    *arguments, whole = arguments
    copy = whole.clone()
    return launch_norm_backward(*arguments, copy), _third(copy, 1)
