"""Recurrences that fade, S = diag(exp(log_gate)) S + keyᵀ value, as Triton kernels: forward, backward, operators.

Two stages in either direction. `states` walks the chunks and keeps the state before each; `outputs` then computes all
chunks at once. Walked backwards with queries and output gradients, the same two kernels give the gradients of the
states and of the values; `gradients` gives the rest. A gate is one number a head and token, or one a key dimension.

`operators` registers `effattn::gated_recurrence_forward` and `effattn::gated_recurrence_backward`.
"""

import torch

from kernels.recurrences.configurations import CHUNK, HEAD_DIMS, TABLE, Configuration, choose
from kernels.recurrences.gradients import launch_gradients
from kernels.recurrences.operators import run_backward, run_forward
from kernels.recurrences.outputs import launch_outputs
from kernels.recurrences.states import launch_states

__all__ = [
    "CHUNK",
    "HEAD_DIMS",
    "TABLE",
    "Configuration",
    "choose",
    "example_launches",
    "launch_gradients",
    "launch_outputs",
    "launch_states",
    "run_backward",
    "run_forward",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = tuple(f"gated_{name}_kernel" for name in ("states", "outputs", "gradients", "gradients_vector"))


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Launch every kernel, with a gate a head and a gate a key dimension: what tracing and inspection look at."""
    query = torch.zeros(1, 2, 128, head_dim, dtype=dtype, device=device)
    state = torch.zeros(1, 2, head_dim, head_dim, device=device)
    for shape in (query.shape[:3], query.shape):
        log_gate = torch.zeros(shape, dtype=torch.float32, device=device)
        tensors = query, query, query, log_gate, state
        run_forward(*tensors, head_dim**-0.5, 0, "triton")
        run_backward(query, state, *tensors, head_dim**-0.5, 0, "triton")
