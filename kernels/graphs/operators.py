"""The kernel as a `torch.library` operator: compiled on a GPU, interpreted on a CPU; its gradient is itself."""

import torch

from kernels.graphs.hop import launch_smooth
from kernels.runtime import interpretable


def run_smooth(
    update: torch.Tensor,
    offsets: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    beta: float,
    layers: int,
    rescaled: bool,
) -> torch.Tensor:
    """ψ(update), [nodes, dim]."""
    return launch_smooth(interpretable(update), offsets, columns, values, beta, layers, rescaled).to(update.dtype)


smooth_update = torch.library.custom_op(
    "effattn::smooth_update", run_smooth, mutates_args=(), device_types=("cpu", "cuda")
)


@smooth_update.register_fake
def _(update, offsets, columns, values, beta, layers, rescaled):
    return update.new_empty(update.shape)


def _keep(ctx, inputs, output):
    _, *graph, ctx.beta, ctx.layers, ctx.rescaled = inputs
    ctx.save_for_backward(*graph)


def _gradient(ctx, grad):
    # ψ is a symmetric matrix: what it does to an update, it does to the gradient of its output.
    found = smooth_update(grad, *ctx.saved_tensors, ctx.beta, ctx.layers, ctx.rescaled)
    return found, None, None, None, None, None, None


smooth_update.register_autograd(_gradient, setup_context=_keep)
