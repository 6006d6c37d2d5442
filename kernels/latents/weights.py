"""The gradients of the head step's matrices: sums over all rows, split between programs and merged in one order."""

import torch
import triton
import triton.language as tl

from kernels.latents.configurations import BLOCK_MERGE, WARPS, choose, splits_for
from kernels.tiles import program_of, rows_of


@triton.jit
def head_weights_kernel(
    left_pointer, right_pointer, output_pointer,
    rows, down, across, down_tiles, across_tiles, share,
    BLOCK_WALK: tl.constexpr, SIDE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """output[s] = left[rows of s]ᵀ right[rows of s]     (eq. latents-weights)

    left: [rows, down], right: [rows, across], output: [splits, down, across]; all contiguous. Split s has the rows from
    s · share on. One program owns a square tile of one split's matrix and walks its rows in order; it always stores, so
    that no rows give 0.
    """
    across_tile, rest = program_of(across_tiles)
    down_tile, split = rest % down_tiles, rest // down_tiles
    lefts, rights = down_tile * SIDE + tl.arange(0, SIDE), across_tile * SIDE + tl.arange(0, SIDE)
    known, there = lefts < down, rights < across
    begin, end = split * share, tl.minimum(split * share + share, rows)
    output = tl.zeros([SIDE, SIDE], tl.float32)
    for first in range(begin, end, BLOCK_WALK):
        places = tl.arange(0, BLOCK_WALK)
        here = first + places < end
        left_rows = rows_of(left_pointer, first, places, down, lefts, 1)
        left = tl.load(left_rows, mask=here[:, None] & known[None, :], other=0.0)
        right_rows = rows_of(right_pointer, first, places, across, rights, 1)
        right = tl.load(right_rows, mask=here[:, None] & there[None, :], other=0.0)
        output = tl.dot(tl.trans(left), right, output, input_precision=PRECISION)
    output_pointer += tl.cast(split, tl.int64) * down * across
    output_rows = rows_of(output_pointer, 0, lefts, across, rights, 1)
    tl.store(output_rows, output, mask=known[:, None] & there[None, :])


@triton.jit
def head_merge_kernel(part_pointer, output_pointer, size, splits, BLOCK: tl.constexpr):
    """output = Σ over the splits of part[s], in their order. part: float32 [splits, size]; output: [size]."""
    places = tl.cast(tl.program_id(0), tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    total = tl.zeros([BLOCK], tl.float32)
    for split in range(splits):
        total += tl.load(part_pointer + tl.cast(split, tl.int64) * size + places, mask=inside, other=0.0)
    tl.store(output_pointer + places, total, mask=inside)


def launch_weights(left, right, splits=None):
    """[down, across] = leftᵀ right from left: [rows, down] and right: [rows, across], contiguous.

    splits: how many programs share a tile's rows, at most; by default what fills the device.
    """
    (rows, down), across = left.shape, right.shape[1]
    row = choose(left.dtype, rows)
    tiles = triton.cdiv(down, row.side), triton.cdiv(across, row.side)
    found, share = splits_for(rows, tiles[0] * tiles[1], row.block_walk, left.device)
    if splits is not None:
        share = max(1, triton.cdiv(triton.cdiv(rows, row.block_walk), splits)) * row.block_walk
        found = max(1, triton.cdiv(rows, share))
    dtype = left.dtype if found == 1 else torch.float32
    parts = torch.empty(found, down, across, dtype=dtype, device=left.device)
    if parts.numel():
        head_weights_kernel[(found * tiles[0] * tiles[1],)](
            left, right, parts,
            rows, down, across, *tiles, share,
            BLOCK_WALK=row.block_walk, SIDE=row.side, PRECISION=row.precision,
            num_warps=WARPS, num_stages=row.stages,
        )  # fmt: skip
    return parts[0] if found == 1 else launch_merge(parts, left.dtype)


def launch_merge(parts, dtype):
    """[down, across] in `dtype`: the sum of parts, float32 [splits, down, across], in their order."""
    splits, *shape = parts.shape
    output = torch.empty(shape, dtype=dtype, device=parts.device)
    if output.numel():
        head_merge_kernel[(triton.cdiv(output.numel(), BLOCK_MERGE),)](
            parts, output, output.numel(), splits, BLOCK=BLOCK_MERGE, num_warps=WARPS
        )
    return output
