"""Softmax attention as Triton kernels: forward, backward, split decode; as `torch.library` operators.

`operators` registers `effattn::attention_forward` and `effattn::attention_backward`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.attention.backward import launch_backward
from kernels.attention.configurations import HEAD_DIMS, TABLE, Configuration
from kernels.attention.decode import attention_decode_kernel, launch_decode
from kernels.attention.forward import absorb, launch_forward
from kernels.sanitize import scattered

__all__ = [
    "HEAD_DIMS",
    "TABLE",
    "Configuration",
    "absorb",
    "attention_decode_kernel",
    "example_launches",
    "launch_backward",
    "launch_decode",
    "launch_forward",
    "ragged_launches",
]


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Call every launcher once, causal and windowed, on aligned tensors: what tracing and inspection look at."""
    query = torch.zeros(batch, 4, 256, head_dim, dtype=dtype, device=device)
    key = torch.zeros(batch, 2, 256, head_dim, dtype=dtype, device=device)
    for window, sinks in ((None, 0), (128, 4)):
        arguments = (True, window, sinks, head_dim**-0.5)
        output, log_sum_exp = launch_forward(query, key, key, *arguments)
        launch_backward(output, log_sum_exp, query, key, key, output, log_sum_exp, *arguments)
    launch_decode(query[:, :, :1], key, key, None, 0, head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over lengths that no block divides, groups, strided views and nothing: for the sanitizer."""
    like = dict(dtype=dtype, device=device)
    for batch, heads, time, key_time, value_dim, masks in (
        (1, 4, 65, 65, 64, (True, None, 0)),
        (1, 2, 257, 257, 32, (True, 70, 4)),
        (1, 2, 100, 190, 32, (True, 33, 7)),
        (2, 4, 63, 20, 32, (False, None, 0)),
        (2, 2, 1, 1, 32, (True, None, 0)),
        (2, 2, 0, 0, 32, (True, None, 0)),
    ):
        query, key = scattered(batch, heads, time, 32, **like), scattered(batch, heads // 2, key_time, 32, **like)
        value = scattered(batch, heads // 2, key_time, value_dim, **like)
        yield f"{time} queries, {key_time} keys, {masks}", partial(_both_ways, query, key, value, *masks, 0.2)
    query = scattered(2, 6, 1, 32, **like)
    for key_time, window, sinks in ((1, None, 0), (63, None, 0), (257, None, 0), (257, 65, 3)):
        key = scattered(2, 2, key_time, 32, **like)
        what = f"decode, {key_time} keys, window {window}"
        yield what, partial(launch_decode, query, key, key, window, sinks, 0.2, splits=3)
    yield "decode, no text", partial(launch_decode, query[:0], key[:0], key[:0], None, 0, 0.2)


def _both_ways(query, key, value, *settings):
    output, log_sum_exp = launch_forward(query, key, value, *settings)
    return output, *launch_backward(output, log_sum_exp, query, key, value, output, log_sum_exp, *settings)
