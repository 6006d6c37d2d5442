"""The one table of block sizes, warps, stages and dot precision for products over ragged groups of rows."""

from typing import NamedTuple

from kernels import runtime


class Configuration(NamedTuple):
    """How a product is launched. precision: of every tl.dot in it, see `input_precision` in Triton's reference.

    block_walk: rows that the gradient of the matrices takes at a time, whose sum runs over them.
    """

    block_row: int
    block_column: int
    block_inner: int
    block_walk: int
    warps: int
    stages: int
    precision: str


# Keyed by (bytes per element, whether an expert has few rows): the largest blocks among those tried that compile
# without a spill for sm_80 and sm_90. Few rows, as when decoding: tiles of 16, the least that a matrix unit takes, for
# a tile costs the same however many of its rows are there. In float32 each number is split in two to be multiplied:
# with 32 rows at a time the gradient of the matrices takes 255 registers for sm_80, all that a thread can have; with 16
# it takes 168, and moves the same bytes.
TABLE = {
    (2, False): Configuration(128, 128, 64, 64, 8, 3, "ieee"),
    (2, True): Configuration(16, 128, 64, 64, 4, 3, "ieee"),
    (4, False): Configuration(64, 64, 32, 16, 4, 2, "tf32x3"),
    (4, True): Configuration(16, 64, 32, 16, 4, 2, "tf32x3"),
}
FEW = 32  # rows per expert, in the mean
BLOCK_TOKEN, BLOCK_DIM, WARPS = 16, 128, 4  # of the kernels that only move and add


def choose(dtype, rows, experts):
    """The Configuration for `rows` rows over `experts`. RuntimeError where no kernel runs, ValueError for a dtype."""
    runtime.require_kernels(dtype)
    return TABLE[dtype.itemsize, rows <= FEW * experts]
