"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU; with their gradients."""

import torch

from kernels.attention.backward import launch_backward
from kernels.attention.decode import launch_decode
from kernels.attention.forward import launch_forward
from kernels.runtime import interpretable


def run_forward(query, key, value, causal, window, sinks, scale):
    """Launch the kernel that fits: decoding for a single query, the block kernel for more."""
    inputs = [interpretable(each) for each in (query, key, value)]
    if query.shape[2] == 1:
        output, log_sum_exp = launch_decode(*inputs, window, sinks, scale)
    else:
        output, log_sum_exp = launch_forward(*inputs, causal, window, sinks, scale)
    return output.to(query.dtype), log_sum_exp


def run_backward(
    grad_output, grad_log_sum_exp, query, key, value, output, log_sum_exp, causal, window, sinks, scale
):  # fmt: skip
    """Launch the three backward kernels."""
    grad_output, *inputs, output = (interpretable(each) for each in (grad_output, query, key, value, output))
    settings = (causal, window, sinks, scale)
    gradients = launch_backward(grad_output, grad_log_sum_exp, *inputs, output, log_sum_exp, *settings)
    return tuple(each.to(query.dtype) for each in gradients)


INPUTS = "Tensor query, Tensor key, Tensor value"
SETTINGS = "bool causal, int? window, int sinks, float scale"
GRADIENTS = "Tensor grad_output, Tensor grad_log_sum_exp"
attention_forward = torch.library.custom_op(
    "effattn::attention_forward",
    run_forward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({INPUTS}, {SETTINGS}) -> (Tensor, Tensor)",
)
attention_backward = torch.library.custom_op(
    "effattn::attention_backward",
    run_backward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({GRADIENTS}, {INPUTS}, Tensor output, Tensor log_sum_exp, {SETTINGS}) -> (Tensor, Tensor, Tensor)",
)


@attention_forward.register_fake
def _(query, key, value, causal, window, sinks, scale):
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))


@attention_backward.register_fake
def _(grad_output, grad_log_sum_exp, query, key, value, output, log_sum_exp, causal, window, sinks, scale):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (query, key, value))


def _keep(ctx, inputs, output):
    query, key, value, *ctx.settings = inputs
    ctx.save_for_backward(query, key, value, *output)


def _gradients(ctx, grad_output, grad_log_sum_exp):
    gradients = attention_backward(grad_output, grad_log_sum_exp, *ctx.saved_tensors, *ctx.settings)
    return *gradients, *(None for _ in ctx.settings)


attention_forward.register_autograd(_gradients, setup_context=_keep)
