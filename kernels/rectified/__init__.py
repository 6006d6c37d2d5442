"""Rectified sparse attention as Triton kernels: selection scores, decoding over a list of blocks, rectification.

`operators` registers `effattn::block_scores_forward` and `effattn::block_attention_forward`.
"""

import torch

from kernels.rectified.configurations import HEAD_DIMS
from kernels.rectified.decode import launch_decode
from kernels.rectified.rectify import launch_rectify
from kernels.rectified.scores import launch_scores

__all__ = ["HEAD_DIMS", "example_launches", "launch_decode", "launch_rectify", "launch_scores"]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = ("rectified_decode_kernel", "rectified_pass_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher on aligned tensors, as inspection and tracing look at them: groups of 4, blocks of 16."""
    query = torch.zeros(1, 8, 32, head_dim, dtype=dtype, device=device)
    key = torch.zeros(1, 2, 1024, head_dim, dtype=dtype, device=device)
    bound = torch.zeros(1, 2, 64, head_dim, dtype=dtype, device=device)
    blocks = torch.zeros(1, 2, 16, dtype=torch.int32, device=device)
    launch_scores(query[:, :, :1], bound, bound, head_dim**-0.5, True)
    launch_decode(query[:, :, :1], key, key, blocks, 16, head_dim**-0.5)
    launch_rectify(query, key, key, head_dim**-0.5)
