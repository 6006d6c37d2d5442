"""The head step as a `torch.library` operator: compiled on a GPU, interpreted on a CPU; with its gradient."""

import torch

from kernels.latents.backward import (
    launch_gate_backward,
    launch_hidden_backward,
    launch_inner_backward,
    launch_norm_backward,
)
from kernels.latents.configurations import FEW, WIDEST
from kernels.latents.forward import launch_down, launch_modulate, launch_sample, launch_up
from kernels.latents.weights import launch_weights
from kernels.runtime import interpretable


def run_step(u, modulation, active, linear, down, kept):
    """(output, modulated, root, products, product): what the backward pass reads is empty unless kept."""
    dtype = u.dtype
    u, modulation, active, linear, down = map(interpretable, (u, modulation, active, linear, down))
    if not kept and len(u) <= FEW:
        inner = launch_sample(u, modulation, active, linear)
        output, _ = launch_down(inner, down, u, modulation, False)
    else:
        modulated, root = launch_modulate(u, modulation)
        inner, products = launch_up(modulated, active, linear, kept)
        output, product = launch_down(inner, down, u, modulation, kept)
        if kept:
            return output.to(dtype), modulated.to(dtype), root, products.to(dtype), product.to(dtype)
    return output.to(dtype), *(u.new_empty(0, dtype=each) for each in (dtype, torch.float32, dtype, dtype))


def run_step_backward(grad, u, modulation, active, linear, down, modulated, root, products, product):
    """Gradients (u, modulation, active and linear above each other, down)."""
    dtype = u.dtype
    grad, u, modulation, active, linear, down, modulated, products, product = map(
        interpretable, (grad, u, modulation, active, linear, down, modulated, products, product)
    )
    grad_modulation, grad_product = launch_gate_backward(grad, product, modulation)
    inner, grad_products = launch_inner_backward(grad_product, down, products)
    launch_hidden_backward(grad_products, active, linear, grad_modulation)
    grad_u = launch_norm_backward(u, modulation, root, grad, grad_modulation)
    both, grad_down = launch_weights(grad_products, modulated), launch_weights(grad_product, inner)
    return tuple(each.to(dtype) for each in (grad_u, grad_modulation, both, grad_down))


INPUTS = "Tensor u, Tensor modulation, Tensor active, Tensor linear, Tensor down"
KEPT = "Tensor modulated, Tensor root, Tensor products, Tensor product"
step = torch.library.custom_op(
    "effattn::head_step",
    run_step,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({INPUTS}, bool kept) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
step_backward = torch.library.custom_op(
    "effattn::head_step_backward",
    run_step_backward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"(Tensor grad, {INPUTS}, {KEPT}) -> (Tensor, Tensor, Tensor, Tensor)",
)


@step.register_fake
def _(u, modulation, active, linear, down, kept):
    (rows, width), hidden = u.shape, active.shape[0]
    shapes = ((rows, width), (rows,), (rows, 2 * hidden), (rows, width)) if kept else ((0,),) * 4
    modulated, root, products, product = (
        u.new_empty(shape, dtype=dtype)
        for shape, dtype in zip(shapes, (u.dtype, torch.float32, u.dtype, u.dtype), strict=True)
    )
    return u.new_empty(rows, width), modulated, root, products, product


@step_backward.register_fake
def _(grad, u, modulation, active, linear, down, *kept):
    hidden, width = active.shape
    shapes = (u.shape, modulation.shape, (2 * hidden, width), (width, hidden))
    return tuple(u.new_empty(shape) for shape in shapes)


def _keep(ctx, inputs, output):
    *tensors, ctx.kept = inputs
    ctx.save_for_backward(*tensors, *output[1:])


def _gradients(ctx, grad, *unused):
    if not ctx.kept:
        raise RuntimeError("the head step ran with kept=False, for sampling: there is nothing to go back through.")
    grad_u, grad_modulation, both, grad_down = step_backward(grad, *ctx.saved_tensors)
    grad_active, grad_linear = both.chunk(2)
    return grad_u, grad_modulation, grad_active, grad_linear, grad_down, None


step.register_autograd(_gradients, setup_context=_keep)


def head_step(u, modulation, active, linear, down):
    """u + gate ⊙ SwiGLU(RMS(u) ⊙ (1 + scale) + shift)     (eq. latents-head-step)

    u: [..., width]; modulation: [..., 3 width], shift, scale and gate side by side; active, linear: [hidden, width];
    down: [width, hidden]: silu goes over what `active` gives, the head's gate_matrix; `linear` is its up_matrix. All of
    one dtype, float32, float16 or bfloat16; any strides. Returns [..., width]. Where gradients are wanted, 2 hidden +
    2 width + 1 numbers per row are kept for them; else none. Raises ValueError where shapes or dtypes do not fit, and
    for rows wider than WIDEST, which no program holds.
    """
    width, hidden = u.shape[-1], active.shape[0]
    if width > WIDEST:
        raise ValueError(f"the kernels take rows of at most {WIDEST} numbers; got {width}.")
    wanted = dict(modulation=(*u.shape[:-1], 3 * width), active=(hidden, width), linear=(hidden, width),
                  down=(width, hidden))  # fmt: skip
    for (name, shape), each in zip(wanted.items(), (modulation, active, linear, down), strict=True):
        if tuple(each.shape) != shape:
            raise ValueError(f"beside u of shape {tuple(u.shape)}, {name} must be {shape}; got {tuple(each.shape)}.")
        if each.dtype != u.dtype:
            raise ValueError(f"u is {u.dtype} and {name} is {each.dtype}; the head step takes one dtype.")
    tensors = (u.reshape(-1, width), modulation.reshape(-1, 3 * width), active, linear, down)
    kept = torch.is_grad_enabled() and any(each.requires_grad for each in tensors)
    return step(*tensors, kept)[0].view(u.shape)
