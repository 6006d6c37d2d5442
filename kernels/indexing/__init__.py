"""One index for many layers, as Triton kernels: scores with a running top-k, the gather, attention over the rows.

`operators` registers `effattn::index_select`, `effattn::index_gather` and `effattn::index_attention`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.indexing.configurations import HEAD_DIMS, INDEX_DIMS, MOST
from kernels.indexing.decode import launch_attention, launch_gather
from kernels.indexing.select import launch_select
from kernels.sanitize import scattered

__all__ = [
    "HEAD_DIMS",
    "INDEX_DIMS",
    "MOST",
    "example_launches",
    "launch_attention",
    "launch_gather",
    "launch_select",
    "ragged_launches",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = ("indexing_select_kernel", "rectified_decode_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Call every launcher on aligned tensors, as inspection and tracing look at them: 16 index heads, groups of 4."""
    ask = torch.zeros(batch, 16, 1, head_dim, dtype=dtype, device=device)
    index = torch.zeros(batch, 1, 4096, head_dim, dtype=dtype, device=device)
    launch_select(ask, index, ask[..., 0].contiguous(), 256, 1)
    query = torch.zeros(batch, 8, 1, head_dim, dtype=dtype, device=device)
    key = torch.zeros(batch, 2, 4096, head_dim, dtype=dtype, device=device)
    rows = torch.zeros(batch, 256, dtype=torch.int32, device=device)
    near_key, near_value = launch_gather(key, key, rows)
    launch_attention(query, near_key, near_value, rows, True, head_dim**-0.5)
    launch_attention(query, key, key, rows, False, head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over caches and lists that no tile divides, rows of -1, groups, strided views and no text."""
    like = dict(dtype=dtype, device=device)
    for batch, time, top_k, heads in (
        (2, 1, 5, 3),
        (1, 63, 70, 4),
        (2, 65, 17, 16),
        (1, 257, 33, 5),
        (0, 65, 17, 4),
    ):
        ask, index = scattered(batch, heads, 1, 16, **like), scattered(batch, 1, time, 16, **like)
        select = partial(launch_select, ask, index, ask[..., 0, 0], top_k, 1, splits=2)
        what = f"{batch} caches of {time}, {top_k} rows"
        yield f"{what}, select", select
        query, key = scattered(batch, 2 * heads, 1, 32, **like), scattered(batch, 2, time, 32, **like)
        value = scattered(batch, 2, time, 64, **like)
        rows = torch.arange(top_k, dtype=torch.int32, device=device).expand(batch, -1)
        rows = torch.where(rows < time, rows, -1)
        yield f"{what}, gather", partial(launch_gather, key, value, rows)
        yield f"{what}, attention", partial(launch_attention, query, key, value, rows, False, 0.2, splits=3)
        near = scattered(batch, 2, top_k, 32, **like)
        yield f"{what}, attention, gathered", partial(launch_attention, query, near, near, rows, True, 0.2, splits=3)
