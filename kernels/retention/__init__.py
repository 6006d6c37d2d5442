"""Retention as Triton kernels: states from chunk to chunk, then outputs, both ways; and one decoded token.

`operators` registers `effattn::retention_forward` and `effattn::retention_backward`.
"""

import torch

from kernels.retention.backward import launch_gradients
from kernels.retention.configurations import DIMS, chunk_for
from kernels.retention.outputs import launch_outputs
from kernels.retention.states import launch_grad_states, launch_states
from kernels.retention.step import launch_step

__all__ = [
    "DIMS",
    "chunk_for",
    "example_launches",
    "launch_grad_states",
    "launch_gradients",
    "launch_outputs",
    "launch_states",
    "launch_step",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = tuple(f"retention_{name}_kernel" for name in (
    "states", "outputs", "grad_states", "grad_value", "grad_query_key"))  # fmt: skip


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher once, on aligned tensors: what tracing and inspection look at."""
    query = torch.zeros(1, 4, 256, head_dim, dtype=dtype, device=device)
    state = torch.zeros(1, 4, head_dim, head_dim, device=device)
    decay, scale = torch.full((4,), 0.97, device=device), head_dim**-0.5
    chunk = chunk_for(dtype, head_dim, head_dim)
    states, final = launch_states(query, query, decay.log2(), state, chunk)
    launch_outputs(query, query, query, decay.log2(), states, scale, chunk)
    grad_states, _ = launch_grad_states(query, query, decay.log2(), final, scale, chunk)
    launch_gradients(query, query, query, query, decay.log2(), states, grad_states, scale, chunk)
    launch_step(query[:, :, :1], query[:, :, :1], query[:, :, :1], decay, state, scale)
