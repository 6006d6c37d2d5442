"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU; with their gradients."""

import torch

from kernels.retention.backward import launch_gradients
from kernels.retention.configurations import chunk_for
from kernels.retention.outputs import launch_outputs
from kernels.retention.states import launch_grad_states, launch_states
from kernels.retention.step import launch_step
from kernels.runtime import interpretable


def _log2(decay):
    """log2 of the decays in float32, taken in float64: a float64 decay rounded near 1 would lose half of 1 - decay."""
    return decay.double().log2().float()


def run_forward(query, key, value, decay, state, scale):
    """Launch the kernels that fit: one step for a single token, states and outputs for more."""
    if query.numel() == 0:  # a batch of none, or no token
        return torch.empty_like(value), state.clone()
    inputs, state = [interpretable(each) for each in (query, key, value)], state.contiguous()
    if query.shape[2] == 1:
        output, after = launch_step(*inputs, decay.float(), state, scale)
        return output.to(value.dtype), after
    query, key, near_value = inputs
    log2_decay, chunk = _log2(decay), chunk_for(query.dtype, query.shape[3], value.shape[3])
    states, final = launch_states(key, near_value, log2_decay, state, chunk)
    return launch_outputs(query, key, near_value, log2_decay, states, scale, chunk).to(value.dtype), final


def run_backward(grad_output, grad_state, query, key, value, decay, state, scale):
    """Launch the states again, their gradients, and the gradients of the tokens."""
    if query.numel() == 0:
        return *(torch.zeros_like(each) for each in (query, key, value)), grad_state.clone()
    given = value.dtype
    grad_output, query, key, value = (interpretable(each) for each in (grad_output, query, key, value))
    log2_decay, chunk = _log2(decay), chunk_for(query.dtype, query.shape[3], value.shape[3])
    states, _ = launch_states(key, value, log2_decay, state.contiguous(), chunk)
    grad_states, grad_initial = launch_grad_states(
        query, grad_output, log2_decay, grad_state.contiguous(), scale, chunk
    )
    gradients = launch_gradients(grad_output, query, key, value, log2_decay, states, grad_states, scale, chunk)
    return *(each.to(given) for each in gradients), grad_initial


INPUTS = "Tensor query, Tensor key, Tensor value, Tensor decay, Tensor state"
retention_forward = torch.library.custom_op(
    "effattn::retention_forward",
    run_forward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({INPUTS}, float scale) -> (Tensor, Tensor)",
)
retention_backward = torch.library.custom_op(
    "effattn::retention_backward",
    run_backward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"(Tensor grad_output, Tensor grad_state, {INPUTS}, float scale) -> (Tensor, Tensor, Tensor, Tensor)",
)


@retention_forward.register_fake
def _(query, key, value, decay, state, scale):
    return value.new_empty(value.shape), state.new_empty(state.shape)


@retention_backward.register_fake
def _(grad_output, grad_state, query, key, value, decay, state, scale):
    return tuple(each.new_empty(each.shape) for each in (query, key, value, state))


def _keep(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad_output, grad_state):
    *gradients, grad_initial = retention_backward(grad_output, grad_state, *ctx.saved_tensors, ctx.scale)
    return *gradients, None, grad_initial, None


retention_forward.register_autograd(_gradients, setup_context=_keep)
