"""Speculation as Triton kernels: a drafter's head over some of the words, and attention of a draft tree.

`operators` registers `effattn::subset_head` and `effattn::tree_attention`.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.sanitize import scattered
from kernels.speculation.configurations import TABLE, choose
from kernels.speculation.head import launch_head
from kernels.speculation.tree import launch_tree

__all__ = [
    "TABLE",
    "choose",
    "example_launches",
    "launch_head",
    "launch_tree",
    "ragged_launches",
]

# Those whose work is matrix products: the compiled code must hold matrix instructions.
MATRIX_KERNELS = ("speculation_head_kernel", "speculation_tree_kernel")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Call every launcher on aligned tensors, as inspection and tracing look at them: 16 rows, a tree of 60 nodes."""
    hidden = torch.zeros(16 * batch, 8 * head_dim, dtype=dtype, device=device)
    weight = torch.zeros(4096, 8 * head_dim, dtype=dtype, device=device)
    launch_head(hidden, weight, torch.arange(0, 4096, 2, device=device), 10)
    query = torch.zeros(batch, 8, 60, head_dim, dtype=dtype, device=device)
    key = torch.zeros(batch, 2, 1024, head_dim, dtype=dtype, device=device)
    launch_tree(query, key, key, torch.ones(batch, 60, dtype=torch.int64, device=device), head_dim**-0.5)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over tables, widths, trees and caches that no tile divides, strided views and no text."""
    like = dict(dtype=dtype, device=device)
    for count, words, kept, width, top_k in (
        (1, 1, 1, 7, 1),
        (17, 300, 257, 65, 10),
        (3, 70, 63, 33, 63),
        (0, 70, 63, 33, 5),
    ):
        hidden, weight = scattered(count, width, **like), scattered(words, width, **like)
        table = torch.arange(words, device=device).flip(0)[:kept]
        what = f"{count} rows of {width}, {kept} of {words} words, the best {top_k}"
        yield what, partial(launch_head, hidden, weight, table, top_k, splits=2)
    for batch, time, nodes, group in ((2, 1, 1, 3), (1, 63, 63, 1), (2, 65, 7, 2), (1, 257, 64, 3), (0, 65, 7, 2)):
        key, value = scattered(batch, 2, time, 32, **like), scattered(batch, 2, time, 64, **like)
        query = scattered(batch, 2 * group, nodes, 32, **like)
        masks = torch.full((batch, nodes), -1, dtype=torch.int64, device=device)
        what = f"{batch} caches of {time}, trees of {nodes}, groups of {group}"
        yield what, partial(launch_tree, query, key, value, masks, 0.2, splits=2)
