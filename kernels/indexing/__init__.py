"""One index for many layers, as Triton kernels: scores with a running top-k, the gather, attention over the rows.

`operators` registers `effattn::index_select`, `effattn::index_gather` and `effattn::index_attention`.
"""

import torch

from kernels.indexing.configurations import HEAD_DIMS, INDEX_DIMS, MOST
from kernels.indexing.decode import launch_attention, launch_gather
from kernels.indexing.select import launch_select

__all__ = ["HEAD_DIMS", "INDEX_DIMS", "MOST", "example_launches", "launch_attention", "launch_gather", "launch_select"]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = ("indexing_select_kernel", "rectified_decode_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher on aligned tensors, as inspection and tracing look at them: 16 index heads, groups of 4."""
    ask = torch.zeros(1, 16, 1, head_dim, dtype=dtype, device=device)
    index = torch.zeros(1, 1, 4096, head_dim, dtype=dtype, device=device)
    launch_select(ask, index, ask[..., 0].contiguous(), 256, 1)
    query = torch.zeros(1, 8, 1, head_dim, dtype=dtype, device=device)
    key = torch.zeros(1, 2, 4096, head_dim, dtype=dtype, device=device)
    rows = torch.zeros(1, 256, dtype=torch.int32, device=device)
    near_key, near_value = launch_gather(key, key, rows)
    launch_attention(query, near_key, near_value, rows, True, head_dim**-0.5)
    launch_attention(query, key, key, rows, False, head_dim**-0.5)
