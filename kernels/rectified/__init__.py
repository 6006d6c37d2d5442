"""Rectified sparse attention as Triton kernels: selection scores, decoding over a list of blocks, rectification.

`operators` registers `effattn::block_scores_forward`, `effattn::block_attention_forward`, `effattn::rectify_forward`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.rectified.configurations import HEAD_DIMS
from kernels.rectified.decode import launch_decode
from kernels.rectified.rectify import launch_rectify
from kernels.rectified.scores import launch_scores
from kernels.sanitize import scattered

__all__ = ["HEAD_DIMS", "example_launches", "launch_decode", "launch_rectify", "launch_scores", "ragged_launches"]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = ("rectified_decode_kernel", "rectified_pass_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Call every launcher on aligned tensors, as inspection and tracing look at them: groups of 4, blocks of 16."""
    query = torch.zeros(batch, 8, 32, head_dim, dtype=dtype, device=device)
    key = torch.zeros(batch, 2, 1024, head_dim, dtype=dtype, device=device)
    bound = torch.zeros(batch, 2, 64, head_dim, dtype=dtype, device=device)
    blocks = torch.zeros(batch, 2, 16, dtype=torch.int32, device=device)
    launch_scores(query[:, :, :1], bound, bound, head_dim**-0.5, True)
    launch_decode(query[:, :, :1], key, key, blocks, 16, head_dim**-0.5)
    launch_rectify(query, key, key, head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over caches that no block divides, lists with gaps, groups, strided views and no text."""
    like = dict(dtype=dtype, device=device)
    for batch, time, group, block_size in (
        (2, 1, 3, 16),
        (1, 63, 4, 16),
        (2, 65, 1, 8),
        (1, 257, 2, 16),
        (0, 65, 2, 16),
    ):
        key, value = scattered(batch, 2, time, 32, **like), scattered(batch, 2, time, 64, **like)
        count = -(-time // block_size)
        bound, query = scattered(batch, 2, count, 32, **like), scattered(batch, 2 * group, 7, 32, **like)
        what = f"{batch} caches of {time}, groups of {group}"
        for shared, lists in ((True, 2), (False, 2 * group)):
            blocks = torch.arange(count, dtype=torch.int32, device=device).flip(0).expand(batch, lists, -1).clone()
            blocks[:, 0, : count // 2] = -1
            scores = partial(launch_scores, query[:, :, :1], bound, bound, 0.2, shared)
            yield f"{what}, {lists} lists, scores", scores
            decode = partial(launch_decode, query[:, :, :1], key, value, blocks, block_size, 0.2, splits=3)
            yield f"{what}, {lists} lists, decode", decode
        yield f"{what}, rectify", partial(launch_rectify, query[:, :, -min(time, 7) :], key, value, 0.2, splits=2)
