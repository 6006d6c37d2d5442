"""The one table of tiles, warps and stages that the kernels of a shared index are launched with."""

from typing import NamedTuple

import torch
import triton

from kernels import runtime

HEAD_DIMS = (32, 64, 128)
INDEX_DIMS = (16, 32, 64, 128)
MOST = 2048  # rows that a running list holds at most: it lives in registers, eight bytes an entry


class Configuration(NamedTuple):
    """How a kernel is launched. keys: of a tile."""

    keys: int
    warps: int
    stages: int


# By (kernel, bytes per element, size up to): the largest tiles among those tried that compile without a spill for sm_80
# and sm_90. The list of "select" is sorted by all warps of a program; "merge" holds it and one other.
TABLE = {
    ("select", 2, 32): Configuration(64, 8, 2),
    ("select", 2, 128): Configuration(64, 4, 2),
    ("select", 4, 128): Configuration(32, 4, 1),
    ("gather", 2, 128): Configuration(32, 4, 1),
    ("gather", 4, 128): Configuration(32, 4, 1),
}
LIST_WARPS = {64: 1, 128: 2, 256: 4, 512: 4, 1024: 8, 2048: 8}  # of a program that sorts a list so long


def choose(kernel, dtype, *dims, among=HEAD_DIMS):
    """The Configuration for a launch, and the precision of its products.

    Raises RuntimeError where no kernel runs, ValueError for what none can do.
    """
    runtime.require_kernels(dtype)
    if not set(dims) <= set(among):
        raise ValueError(
            f"the kernels take sizes among {among}; got {' and '.join(map(str, dims))}: use implementation='torch'."
        )
    limits = (limit for limit in HEAD_DIMS if limit >= max(dims))
    row = next(row for limit in limits if (row := (kernel, dtype.itemsize, limit)) in TABLE)
    # Three TF32 products stand for a float32 one; two bytes are multiplied as they are.
    return TABLE[row], "tf32x3" if dtype == torch.float32 else "ieee"


def select_configuration(element):
    """The Configuration of scoring for numbers of `element` bytes."""
    return TABLE["select", element, 128]


def capacity_of(top_k, block):
    """Entries of a running list: a power of two, at least a tile. Raises ValueError above MOST."""
    if top_k > MOST:
        raise ValueError(f"the kernel keeps at most {MOST} rows; top_k is {top_k}: use implementation='torch'.")
    return max(64, block, triton.next_power_of_2(top_k))
