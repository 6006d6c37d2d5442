"""Decoding over pruned key channels (LeanK) as Triton kernels: one for the groups of heads, two of `kernels.attention`.

`operators` registers `effattn::channels_decode`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.channels.configurations import TABLE, Configuration, choose, width_of
from kernels.channels.decode import launch_decode
from kernels.sanitize import scattered

__all__ = ["TABLE", "Configuration", "choose", "example_launches", "launch_decode", "ragged_launches", "width_of"]

MATRIX_KERNELS = ("channels_decode_kernel",)


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Decode once with groups of a quarter, a half, three quarters and all channels, and a head without any."""
    query = torch.zeros(batch, 10, 1, head_dim, dtype=dtype, device=device)
    dense = torch.zeros(batch, 5, 64, head_dim, dtype=dtype, device=device)
    counts = [quarters * head_dim // 4 for quarters in (4, 3, 2, 1)]
    keys = [torch.zeros(batch, 1, 1024, count, dtype=dtype, device=device) for count in counts]
    values = [torch.zeros(batch, 1, 1024, head_dim, dtype=dtype, device=device) for _ in counts]
    channels = [torch.arange(count, device=device)[None] for count in counts]
    launch_decode(query, dense, dense, keys, values, channels, head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over caches and channel counts that no tile divides, groups, strided views and no text."""
    like = dict(dtype=dtype, device=device)
    counts = (24, 8, 5)  # and a fourth key head keeps none
    for batch, dense_time, time, group in (
        (2, 1, 1, 1),
        (1, 40, 63, 6),
        (2, 33, 65, 2),
        (1, 77, 257, 2),
        (0, 40, 65, 2),
    ):
        query, dense = scattered(batch, 4 * group, 1, 32, **like), scattered(batch, 4, dense_time, 32, **like)
        keys = [scattered(batch, 1, time, count, **like) for count in counts]
        values = [scattered(batch, 1, time, 32, **like) for _ in counts]
        channels = [torch.arange(32, device=device)[None, -count:] for count in counts]
        call = partial(launch_decode, query, dense, dense, keys, values, channels, 0.2, splits=(2, 3))
        yield f"{batch} caches of {dense_time} and {time}, groups of {group}", call
