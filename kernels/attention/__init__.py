"""Softmax attention as Triton kernels: forward, backward, split decode; as `torch.library` operators.

`operators` registers `effattn::attention_forward` and `effattn::attention_backward`.
"""

import torch

from kernels.attention.backward import launch_backward
from kernels.attention.configurations import HEAD_DIMS, TABLE, Configuration
from kernels.attention.decode import launch_decode
from kernels.attention.forward import launch_forward

__all__ = [
    "HEAD_DIMS",
    "TABLE",
    "Configuration",
    "example_launches",
    "launch_backward",
    "launch_decode",
    "launch_forward",
]


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher once, causal and windowed, on aligned tensors: what tracing and inspection look at."""
    query = torch.zeros(1, 4, 256, head_dim, dtype=dtype, device=device)
    key = torch.zeros(1, 2, 256, head_dim, dtype=dtype, device=device)
    for window, sinks in ((None, 0), (128, 4)):
        arguments = (True, window, sinks, head_dim**-0.5)
        output, log_sum_exp = launch_forward(query, key, key, *arguments)
        launch_backward(output, log_sum_exp, query, key, key, output, log_sum_exp, *arguments)
    launch_decode(query[:, :, :1], key, key, None, 0, head_dim**-0.5)
