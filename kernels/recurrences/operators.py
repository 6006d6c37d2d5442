"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU; with their gradients."""

import torch

from kernels.recurrences.delta import launch_delta
from kernels.recurrences.gradients import launch_gradients
from kernels.recurrences.outputs import launch_outputs
from kernels.recurrences.states import launch_states
from kernels.retention.step import launch_step
from kernels.runtime import interpretable


def run_forward(query, key, value, log_gate, state, scale):
    """(output, state). Shapes as `effattn_core.recurrences.gated_recurrence` takes them.

    States first, then outputs. A single token with a gate a head is one step of retention whose decay is its gate.
    """
    query, key, near_value, log_gate = (interpretable(each) for each in (query, key, value, log_gate))
    state = state.float().contiguous()
    if query.shape[2] == 1 and log_gate.ndim == 3 and query.numel():
        output, final = launch_step(query, key, near_value, log_gate.float().exp(), state, scale)
    else:
        before, final = launch_states(key, near_value, log_gate, state)
        output = launch_outputs(query, key, near_value, log_gate, before, scale=scale, state_scale=scale)
    return output.to(value.dtype), final


def run_backward(grad_output, grad_state, query, key, value, log_gate, state, scale):
    """Gradients (query, key, value, log_gate, state): states again, their gradients backwards, then the rest."""
    given = query, key, value, log_gate, state
    grad_output, query, key, value, log_gate = (
        interpretable(each) for each in (grad_output, query, key, value, log_gate)
    )
    before, _ = launch_states(key, value, log_gate, state.float().contiguous())
    after, grad_initial = launch_states(
        query, grad_output, log_gate, grad_state.float().contiguous(), scale=scale, reverse=True
    )
    grad_value = launch_outputs(key, query, grad_output, log_gate, after, scale=scale, state_scale=1.0, reverse=True)
    grad_query, grad_key, grad_gate = launch_gradients(
        query, key, value, log_gate, grad_output, before, after, scale=scale
    )
    gradients = grad_query, grad_key, grad_value, grad_gate, grad_initial
    return tuple(gradient.to(each.dtype) for gradient, each in zip(gradients, given, strict=True))


def run_delta(query, key, value, log_gate, beta, state, scale):
    """(output, state) of the delta rules, token by token, without gradients. log_gate, beta: [batch, heads, time].

    Other shapes as `effattn_core.recurrences.recurrence` takes them.
    """
    near = [interpretable(each) for each in (query, key, value, log_gate, beta)]
    output, final = launch_delta(*near, state.float().contiguous(), scale)
    return output.to(value.dtype), final


INPUTS = "Tensor query, Tensor key, Tensor value, Tensor log_gate, Tensor state"
gated_forward_operator = torch.library.custom_op(
    "effattn::gated_recurrence_forward",
    run_forward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({INPUTS}, float scale) -> (Tensor, Tensor)",
)
gated_backward_operator = torch.library.custom_op(
    "effattn::gated_recurrence_backward",
    run_backward,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"(Tensor grad_output, Tensor grad_state, {INPUTS}, float scale) -> ({', '.join(['Tensor'] * 5)})",
)
delta_operator = torch.library.custom_op(
    "effattn::delta_recurrence",
    run_delta,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema="(Tensor query, Tensor key, Tensor value, Tensor log_gate, Tensor beta, Tensor state, float scale)"
    " -> (Tensor, Tensor)",
)


@gated_forward_operator.register_fake
def _(query, key, value, log_gate, state, scale):
    return value.new_empty(value.shape), state.new_empty(state.shape)


@gated_backward_operator.register_fake
def _(grad_output, grad_state, query, key, value, log_gate, state, scale):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (query, key, value, log_gate, state))


@delta_operator.register_fake
def _(query, key, value, log_gate, beta, state, scale):
    return value.new_empty(value.shape), state.new_empty(state.shape)


def _keep(ctx, inputs, output):
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad_output, grad_state):
    return *gated_backward_operator(grad_output, grad_state, *ctx.saved_tensors, ctx.scale), None


gated_forward_operator.register_autograd(_gradients, setup_context=_keep)
