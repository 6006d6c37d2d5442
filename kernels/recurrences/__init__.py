"""Recurrences as Triton kernels: those that fade, S = diag(exp(log_gate)) S + keyᵀ value, and the delta rules.

Two stages in either direction. `states` walks the chunks and keeps the state before each; `outputs` then computes all
chunks at once. Walked backwards with queries and output gradients, the same two kernels give the gradients of the
states and of the values; `gradients` gives the rest. A gate is one number per head and token, or one per key dimension.
The delta rules have one kernel, `delta`: it walks the tokens, for decoding and short prompts, and has no backward.

`operators` registers `effattn::gated_recurrence_forward`, `effattn::gated_recurrence_backward` and
`effattn::delta_recurrence`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.recurrences.configurations import CHUNK, HEAD_DIMS, TABLE, Configuration, choose
from kernels.recurrences.delta import launch_delta
from kernels.recurrences.gradients import launch_gradients
from kernels.recurrences.operators import run_backward, run_delta, run_forward
from kernels.recurrences.outputs import launch_outputs
from kernels.recurrences.states import launch_states
from kernels.sanitize import scattered

__all__ = [
    "CHUNK",
    "HEAD_DIMS",
    "TABLE",
    "Configuration",
    "choose",
    "example_launches",
    "launch_delta",
    "launch_gradients",
    "launch_outputs",
    "launch_states",
    "ragged_launches",
    "run_backward",
    "run_delta",
    "run_forward",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = tuple(f"gated_{name}_kernel" for name in ("states", "outputs", "gradients", "gradients_vector"))


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Launch every kernel, with a gate per head and a gate per key dimension: what tracing and inspection look at."""
    query = torch.zeros(batch, 2, 128, head_dim, dtype=dtype, device=device)
    state = torch.zeros(batch, 2, head_dim, head_dim, device=device)
    for shape in (query.shape[:3], query.shape):
        log_gate = torch.zeros(shape, dtype=torch.float32, device=device)
        tensors = query, query, query, log_gate, state
        run_forward(*tensors, head_dim**-0.5)
        run_backward(query, state, *tensors, head_dim**-0.5)
    gate = torch.zeros(query.shape[:3], dtype=torch.float32, device=device)
    run_delta(query, query, query, gate, gate, state, head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over lengths that no chunk divides, unequal dims, strided views, every gate, and nothing."""
    for batch, heads, time, key_dim, value_dim in (
        (2, 2, 1, 32, 32),
        (1, 2, 63, 32, 32),
        (2, 1, 65, 32, 64),
        (1, 1, 257, 32, 32),
        (1, 2, 0, 32, 32),
        (0, 2, 65, 64, 32),
    ):
        query = scattered(batch, heads, time, key_dim, dtype=dtype, device=device)
        value = scattered(batch, heads, time, value_dim, dtype=dtype, device=device)
        state = scattered(batch, heads, key_dim, value_dim, device=device)
        for gate, shape in (("head", query.shape[:3]), ("key dimension", query.shape)):
            log_gate = scattered(*shape, device=device).abs().neg()
            what = f"{batch} texts of {time} tokens, {key_dim} by {value_dim}, a gate per {gate}"
            yield what, partial(_both_ways, value, state, query, query, value, log_gate, state)
        gate, beta = (scattered(batch, heads, time, device=device) for _ in range(2))
        what = f"{batch} texts of {time} tokens, {key_dim} by {value_dim}, a delta rule"
        yield what, partial(run_delta, query, query, value, gate.abs().neg(), beta.sigmoid(), state, 0.2)


def _both_ways(grad_output, grad_state, *tensors):
    output = run_forward(*tensors, 0.2)
    return *output, *run_backward(grad_output, grad_state, *tensors, 0.2)
