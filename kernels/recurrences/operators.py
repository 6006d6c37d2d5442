"""The kernels as `torch.library` operators: the device picks the implementation, autograd and torch.compile follow.

`effattn_core.recurrences` adds the CPU implementation. `chunk_size` and `implementation` matter there only: "triton"
interprets the kernels, anything else runs the chunkwise PyTorch form with chunks of that size.
"""

import torch

from kernels.recurrences.gradients import launch_gradients
from kernels.recurrences.outputs import launch_outputs
from kernels.recurrences.states import launch_states
from kernels.retention.step import launch_step


def run_forward(query, key, value, log_gate, state, scale, chunk_size, implementation):
    """(output, state). Shapes as `effattn_core.recurrences.gated_recurrence` takes them.

    States first, then outputs. A single token with a gate a head is one step of retention whose decay is its gate.
    """
    if query.shape[2] == 1 and log_gate.ndim == 3 and query.numel():
        return launch_step(query, key, value, log_gate.float().exp(), state.float().contiguous(), scale)
    before, final = launch_states(key, value, log_gate, state.float().contiguous())
    return launch_outputs(query, key, value, log_gate, before, scale=scale, state_scale=scale), final


def run_backward(grad_output, grad_state, query, key, value, log_gate, state, scale, chunk_size, implementation):
    """Gradients (query, key, value, log_gate, state): states again, their gradients backwards, then the rest."""
    before, _ = launch_states(key, value, log_gate, state.float().contiguous())
    after, grad_initial = launch_states(
        query, grad_output, log_gate, grad_state.float().contiguous(), scale=scale, reverse=True
    )
    grad_value = launch_outputs(key, query, grad_output, log_gate, after, scale=scale, state_scale=1.0, reverse=True)
    grad_query, grad_key, grad_gate = launch_gradients(
        query, key, value, log_gate, grad_output, before, after, scale=scale
    )
    return grad_query, grad_key, grad_value, grad_gate, grad_initial.to(state.dtype)


INPUTS = "Tensor query, Tensor key, Tensor value, Tensor log_gate, Tensor state"
SETTINGS = "float scale, int chunk_size, str implementation"
gated_forward_operator = torch.library.custom_op(
    "effattn::gated_recurrence_forward",
    run_forward,
    mutates_args=(),
    device_types="cuda",
    schema=f"({INPUTS}, {SETTINGS}) -> (Tensor, Tensor)",
)
gated_backward_operator = torch.library.custom_op(
    "effattn::gated_recurrence_backward",
    run_backward,
    mutates_args=(),
    device_types="cuda",
    schema=f"(Tensor grad_output, Tensor grad_state, {INPUTS}, {SETTINGS}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@gated_forward_operator.register_fake
def _(query, key, value, log_gate, state, scale, chunk_size, implementation):
    return value.new_empty(value.shape), state.new_empty(state.shape)


@gated_backward_operator.register_fake
def _(grad_output, grad_state, query, key, value, log_gate, state, scale, chunk_size, implementation):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (query, key, value, log_gate, state))


def _keep(ctx, inputs, output):
    *tensors, ctx.scale, ctx.chunk_size, ctx.implementation = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad_output, grad_state):
    settings = ctx.scale, ctx.chunk_size, ctx.implementation
    gradients = gated_backward_operator(grad_output, grad_state, *ctx.saved_tensors, *settings)
    return *gradients, *(None for _ in settings)


gated_forward_operator.register_autograd(_gradients, setup_context=_keep)
