"""The one table of block sizes, warps, stages and dot precision of the head step, and the shapes of its row passes."""

from typing import NamedTuple

import triton

from kernels import runtime

EPSILON = 1e-6  # of the root mean square, which has no learned weight


class Configuration(NamedTuple):
    """How a product is launched. precision: of every tl.dot in it, see `input_precision` in Triton's reference.

    block_walk, side: rows at a time, and the square tile, of the weights' gradient, whose sum runs over the rows.
    """

    block_row: int
    block_column: int
    block_inner: int
    block_walk: int
    side: int
    warps: int
    stages: int
    precision: str


# Keyed by (bytes per element, whether there are few rows): the largest blocks among those tried that compile without a
# spill for sm_80 and sm_90, where the first product and its backward hold two tiles of sums at once. Few rows, as when
# a batch is sampled: tiles of 16, the least that a matrix unit takes, and more programs to read the weights.
TABLE = {
    (2, False): Configuration(128, 64, 64, 64, 64, 8, 3, "ieee"),
    (2, True): Configuration(16, 64, 64, 64, 64, 4, 3, "ieee"),
    (4, False): Configuration(64, 32, 32, 16, 32, 4, 2, "tf32x3"),
    (4, True): Configuration(16, 32, 32, 16, 32, 4, 2, "tf32x3"),
}
FEW = 64  # rows
LANES = 4096  # numbers that a program of a pass over rows holds at once, if a row has no more
WIDEST = 8192  # numbers in a row: the largest power of two whose passes over whole rows compile without a spill
BLOCK_MERGE = 1024
WARPS = 4  # of the kernels that only move and add


def choose(dtype, rows):
    """The Configuration for `rows` rows. RuntimeError where no kernel runs, ValueError for a dtype that none takes."""
    runtime.require_kernels(dtype)
    return TABLE[dtype.itemsize, rows <= FEW]


def whole_rows(width):
    """(rows, lanes) of a program that owns whole rows of `width` numbers: a power of two each."""
    lanes = max(16, triton.next_power_of_2(width))
    return max(1, LANES // lanes), lanes


def splits_for(rows, tiles, block_walk, device):
    """(programs that share the sum over the rows of one tile, rows of each): enough to fill the device twice.

    Each but the last walks at least four blocks, unless there are fewer. What they find is merged in their order, so
    that two runs give the same bits.
    """
    blocks = triton.cdiv(rows, block_walk)
    wanted = min(triton.cdiv(2 * runtime.multiprocessors(device), max(tiles, 1)), blocks // 4)
    share = max(1, triton.cdiv(blocks, max(wanted, 1))) * block_walk
    return max(1, triton.cdiv(rows, share)), share
