"""The one table of tiles, warps and stages that the kernels of speculation are launched with."""

from typing import NamedTuple

import torch

from kernels import runtime
from kernels.table import DIMS


class Configuration(NamedTuple):
    """How a kernel is launched. rows: of a tile of queries; keys: of a tile of keys, or words of a tile.

    chunk: numbers of a word's row that one product sums over; 0 where a tile holds whole rows.
    """

    rows: int
    keys: int
    chunk: int
    warps: int
    stages: int


# By (kernel, bytes per element, head_dim up to): the largest tiles among those tried that compile without a spill for
# sm_80 and sm_90. A drafter asks for ten rows or so: "head" has one tile of 16, and more rows take more programs.
TABLE = {
    ("head", 2, 128): Configuration(16, 128, 64, 4, 3),
    ("head", 4, 128): Configuration(16, 64, 64, 4, 2),
    ("tree", 2, 32): Configuration(128, 32, 0, 8, 2),
    ("tree", 2, 64): Configuration(128, 64, 0, 8, 2),
    ("tree", 2, 128): Configuration(128, 32, 0, 8, 2),
    ("tree", 4, 64): Configuration(32, 32, 0, 8, 1),
    ("tree", 4, 128): Configuration(32, 16, 0, 8, 1),
}


def choose(kernel, dtype, *dims):
    """The Configuration for a launch, and the precision of its products.

    Raises RuntimeError where no kernel runs, ValueError for what none can do.
    """
    runtime.require_kernels(dtype)
    if not set(dims) <= set(DIMS):
        raise ValueError(
            f"the kernels take a head_dim and value_dim among {DIMS}; got {' and '.join(map(str, dims))}: "
            "use implementation='torch'."
        )
    wide = max(dims, default=DIMS[-1])
    row = next(row for limit in DIMS if limit >= wide and (row := (kernel, dtype.itemsize, limit)) in TABLE)
    # Three TF32 products stand for a float32 one; two bytes are multiplied as they are.
    return TABLE[row], "tf32x3" if dtype == torch.float32 else "ieee"
