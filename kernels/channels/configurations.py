"""The one table of block sizes, warps, stages and dot precision for decoding over whole keys and kept channels."""

from typing import NamedTuple

import triton

from kernels import runtime

LIMITS = (32, 64, 128)


class Configuration(NamedTuple):
    """How the kernel is launched. precision: of every tl.dot in it, see `input_precision` in Triton's reference."""

    block_key: int
    warps: int
    stages: int
    precision: str


# Keyed by (bytes per element, the larger of the padded count and value_dim up to): the largest blocks among those tried
# that compile without a spill for sm_80 and sm_90: whole keys and every width of kept channels, with several splits.
TABLE = {
    (2, 32): Configuration(128, 4, 3, "ieee"),  # with two stages the compiler spills on sm_90 for occupancy
    (2, 64): Configuration(128, 4, 2, "ieee"),
    (2, 128): Configuration(64, 4, 2, "ieee"),
    (4, 32): Configuration(64, 4, 2, "tf32x3"),
    (4, 64): Configuration(32, 4, 2, "tf32x3"),  # 64 keys spill on sm_80
    (4, 128): Configuration(32, 4, 2, "tf32x3"),
}


def width_of(count):
    """The columns of a tile that holds `count` channels: a power of two, at least the 16 that tl.dot sums over."""
    return max(16, triton.next_power_of_2(count))


def choose(dtype, count, value_dim):
    """The Configuration for keys of `count` channels, a group's or all of them.

    Raises RuntimeError where no kernel runs, ValueError for what it cannot do.
    """
    runtime.require_kernels(dtype)
    wide = max(width_of(count), value_dim)
    if value_dim not in LIMITS or wide > LIMITS[-1]:
        raise ValueError(
            f"the kernels take a value_dim among {LIMITS} and up to {LIMITS[-1]} channels; got {value_dim} and "
            f"{count}: use implementation='torch'."
        )
    return next(TABLE[dtype.itemsize, limit] for limit in LIMITS if limit >= wide and (dtype.itemsize, limit) in TABLE)
