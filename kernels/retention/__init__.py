"""Retention as Triton kernels: states from chunk to chunk, then outputs, both ways; and one decoded token.

`operators` registers `effattn::retention_forward` and `effattn::retention_backward`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.retention.backward import launch_gradients
from kernels.retention.configurations import DIMS, chunk_for
from kernels.retention.outputs import launch_outputs
from kernels.retention.states import launch_grad_states, launch_states
from kernels.retention.step import launch_step
from kernels.sanitize import scattered

__all__ = [
    "DIMS",
    "chunk_for",
    "example_launches",
    "launch_grad_states",
    "launch_gradients",
    "launch_outputs",
    "launch_states",
    "launch_step",
    "ragged_launches",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = tuple(f"retention_{name}_kernel" for name in (
    "states", "outputs", "grad_states", "grad_value", "grad_query_key"))  # fmt: skip


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Call every launcher once, on aligned tensors: what tracing and inspection look at."""
    query = torch.zeros(batch, 4, 256, head_dim, dtype=dtype, device=device)
    state = torch.zeros(batch, 4, head_dim, head_dim, device=device)
    decay, scale = torch.full((4,), 0.97, device=device), head_dim**-0.5
    chunk = chunk_for(dtype, head_dim, head_dim)
    states, final = launch_states(query, query, decay.log2(), state, chunk)
    launch_outputs(query, query, query, decay.log2(), states, scale, chunk)
    grad_states, _ = launch_grad_states(query, query, decay.log2(), final, scale, chunk)
    launch_gradients(query, query, query, query, decay.log2(), states, grad_states, scale, chunk)
    launch_step(query[:, :, :1], query[:, :, :1], query[:, :, :1], decay, state, scale)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over lengths that no chunk divides, unequal dims, strided views, one token and none."""
    decay = torch.tensor([0.9, 0.97], device=device)
    for batch, time, key_dim, value_dim in (
        (2, 1, 32, 32),
        (1, 63, 32, 32),
        (2, 65, 64, 32),
        (1, 257, 32, 64),
        (1, 0, 32, 32),
        (0, 65, 32, 32),
    ):
        query = scattered(batch, 2, time, key_dim, dtype=dtype, device=device)
        value = scattered(batch, 2, time, value_dim, dtype=dtype, device=device)
        state = torch.randn(batch, 2, key_dim, value_dim, generator=torch.Generator().manual_seed(time)).to(device)
        what = f"{batch} texts of {time} tokens, {key_dim} by {value_dim}"
        yield what, partial(_both_ways, query, value, decay, state)
        if time == 1:
            for decays in (decay, decay.repeat(batch, 1)):  # of a head, and of each text's head
                yield f"{what}, a step", partial(launch_step, query, query, value, decays, state, 0.2)


def _both_ways(query, value, decay, state):
    chunk = chunk_for(query.dtype, query.shape[3], value.shape[3])
    states, final = launch_states(query, value, decay.log2(), state, chunk)
    output = launch_outputs(query, query, value, decay.log2(), states, 0.2, chunk)
    grad_states, grad_initial = launch_grad_states(query, value, decay.log2(), final, 0.2, chunk)
    gradients = launch_gradients(value, query, query, value, decay.log2(), states, grad_states, 0.2, chunk)
    return output, final, grad_initial, *gradients
