"""What every kernel finds its tile with: which program it is, and where the rows, heads and states lie that it owns.

Grids have one axis. A GPU takes 2^31 - 1 programs along the first and only 65,535 along the others, which batch · heads
passes, and the chunks of a long text pass too. The tiles of one head are neighbours in the grid: they run at about the
same time, and read the same keys or states while those are in the L2 cache.

Offsets are in 64 bits: a row's number times its stride passes 2^31 long before the memory of a device does.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)  # exp(x) = exp2(x · LOG2_E): the hardware has exp2


@triton.jit
def program_of(tiles):
    """(tile, row) of this program, where each row, a head of a batch item, has this many tiles."""
    program = tl.program_id(0)
    return program % tiles, program // tiles


@triton.jit
def head_of(pointer, row, heads, batch_stride, head_stride):
    """Where one head of one batch item begins; row counts batch · heads."""
    return pointer + tl.cast(row // heads, tl.int64) * batch_stride + tl.cast(row % heads, tl.int64) * head_stride


@triton.jit
def rows_of(pointer, first, rows, time_stride, dims, dim_stride):
    """Pointers to rows first + rows of one head, [rows, dims]."""
    time = tl.cast(first + rows, tl.int64)
    return pointer + time[:, None] * time_stride + tl.cast(dims, tl.int64)[None, :] * dim_stride


@triton.jit
def tile_of(pointer, number, first_key, first_value, KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
            BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr):  # fmt: skip
    """Pointers to a tile of the state with this number: states are [.., KEY_DIM, VALUE_DIM], contiguous."""
    keys, values = first_key + tl.arange(0, BLOCK_KEY), first_value + tl.arange(0, BLOCK_VALUE)
    return pointer + tl.cast(number, tl.int64) * KEY_DIM * VALUE_DIM + keys[:, None] * VALUE_DIM + values[None, :]
