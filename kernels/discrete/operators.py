"""The sweep as a `torch.library` operator; its backward is the slope kernel."""

import torch

from kernels.discrete.sweep import launch_slope, launch_sweep
from kernels.runtime import interpretable


def run_sums(
    violated: torch.Tensor, weight: torch.Tensor, alpha: float, beta: float, stretched: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(total float32, hard uint8), each [rows, nodes]."""
    return launch_sweep(violated, interpretable(weight), alpha, beta, stretched)


def run_slope(
    violated: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, alpha: float, beta: float, stretched: bool
) -> torch.Tensor:
    """The gradient of the weight, [inputs, nodes] in its dtype."""
    return launch_slope(violated, interpretable(weight), grad, alpha, beta, stretched).to(weight.dtype)


rule_sums = torch.library.custom_op("effattn::rule_sums", run_sums, mutates_args=(), device_types=("cpu", "cuda"))
rule_slope = torch.library.custom_op("effattn::rule_slope", run_slope, mutates_args=(), device_types=("cpu", "cuda"))


@rule_sums.register_fake
def _(violated, weight, alpha, beta, stretched):
    shape = violated.shape[0], weight.shape[1]
    return weight.new_empty(shape, dtype=torch.float32), weight.new_empty(shape, dtype=torch.uint8)


@rule_slope.register_fake
def _(violated, weight, grad, alpha, beta, stretched):
    return weight.new_empty(weight.shape)


def _keep(ctx, inputs, output):
    violated, weight, *ctx.settings = inputs
    ctx.save_for_backward(violated, weight)
    ctx.mark_non_differentiable(output[1])


def _gradient(ctx, grad, _):
    violated, weight = ctx.saved_tensors
    return None, rule_slope(violated, weight, grad, *ctx.settings), None, None, None


rule_sums.register_autograd(_gradient, setup_context=_keep)
