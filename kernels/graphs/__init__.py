"""A step smoothed over a graph as a Triton kernel: a hop gathers each node's neighbours and adds to the sum.

`operators` registers `effattn::smooth_update`, which is its own gradient.
"""

from functools import partial

import torch

from kernels import needs_triton  # noqa: F401  (first: it stops with a sentence where triton is missing)
from kernels.graphs.hop import BLOCK_DIM, BLOCK_NEIGHBOUR, launch_hop, launch_smooth
from kernels.sanitize import scattered

__all__ = ["BLOCK_DIM", "BLOCK_NEIGHBOUR", "example_launches", "launch_hop", "launch_smooth", "ragged_launches"]

MATRIX_KERNELS = ()


def example_launches(dtype=torch.float32, head_dim=64, device="cpu", batch=1):
    """Three hops over a ring of nodes, a table of head_dim numbers per node: the first, one between, the last."""
    nodes = 64 * batch
    offsets = torch.arange(nodes + 1, dtype=torch.int64, device=device) * 2
    columns = torch.zeros(2 * nodes, dtype=torch.int64, device=device)
    values = torch.zeros(2 * nodes, device=device)
    update = torch.zeros(nodes, head_dim, dtype=dtype, device=device)
    launch_smooth(update, offsets, columns, values, 0.9, 3, True)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over nodes without neighbours, one that has all, and widths that no tile divides."""
    for name, rows in cases().items():
        offsets, columns, values = (each.to(device) for each in compressed(rows))
        for dim in (5, BLOCK_DIM + 3):
            update = scattered(len(rows), dim, dtype=dtype, device=device)
            for layers in (1, 3):
                call = partial(launch_smooth, update, offsets, columns, values, 0.9, layers, True)
                yield f"{name}, {dim} wide, {layers} hops", call


def cases():
    """name -> the neighbours of each node."""
    star = [list(range(1, 40))] + [[0] for _ in range(1, 40)]
    return {"a star": star, "a pair and two alone": [[], [2], [1], []], "nobody has neighbours": [[], [], []]}


def compressed(rows):
    """(offsets, columns, values) of neighbours per node; values differ from entry to entry."""
    counts = torch.tensor([0, *map(len, rows)], dtype=torch.int64)
    columns = torch.tensor([each for row in rows for each in row], dtype=torch.int64)
    return counts.cumsum(0), columns, torch.rand(len(columns), generator=torch.Generator().manual_seed(2))
