"""Decoding over pruned key channels (LeanK) as Triton kernels: one for the groups of heads, two of `kernels.attention`.

`operators` registers `effattn::channels_decode`.
"""

import torch

from kernels.channels.configurations import TABLE, Configuration, choose, width_of
from kernels.channels.decode import launch_decode

__all__ = ["TABLE", "Configuration", "choose", "example_launches", "launch_decode", "width_of"]

MATRIX_KERNELS = ("channels_decode_kernel",)


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Decode once with groups of a quarter, a half, three quarters and all channels, and a head without any."""
    query = torch.zeros(1, 10, 1, head_dim, dtype=dtype, device=device)
    dense = torch.zeros(1, 5, 64, head_dim, dtype=dtype, device=device)
    counts = [quarters * head_dim // 4 for quarters in (4, 3, 2, 1)]
    keys = [torch.zeros(1, 1, 1024, count, dtype=dtype, device=device) for count in counts]
    values = [torch.zeros(1, 1, 1024, head_dim, dtype=dtype, device=device) for _ in counts]
    channels = [torch.arange(count, device=device)[None] for count in counts]
    launch_decode(query, dense, dense, keys, values, channels, head_dim**-0.5)
