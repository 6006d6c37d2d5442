"""How high a key of each block could score: one pass over the blocks' bounds, no product of matrices."""

import torch
import triton
import triton.language as tl

from kernels.rectified.configurations import choose
from kernels.tiles import program_of, rows_of


@triton.jit
def rectified_scores_kernel(
    query_pointer, lowest_pointer, highest_pointer, score_pointer,
    lists, lists_a_head, blocks,
    query_batch_stride, query_head_stride, query_dim_stride,
    bound_batch_stride, bound_head_stride, bound_block_stride, bound_dim_stride,
    scale,
    MEMBERS: tl.constexpr, MEMBER_ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """score = scale · Σ_c max(q_c lowest_c, q_c highest_c), q the mean query of a list's heads     (eq. resa-bound)

    lowest, highest: [batch, key_heads, blocks, HEAD_DIM], of the same strides; score: [batch, lists, blocks] float32,
    contiguous. One program owns BLOCKS blocks of one list, which has MEMBERS query heads: all of a group, or one.
    """
    tile, row = program_of(tl.cdiv(blocks, BLOCKS))
    batch, place = tl.cast(row // lists, tl.int64), tl.cast(row % lists, tl.int64)
    members, dims = tl.arange(0, MEMBER_ROWS), tl.arange(0, HEAD_DIM)
    query_pointer += batch * query_batch_stride + place * MEMBERS * query_head_stride
    query_rows = rows_of(query_pointer, 0, members, query_head_stride, dims, query_dim_stride)
    query = tl.load(query_rows, mask=(members < MEMBERS)[:, None], other=0.0).to(tl.float32)
    chooser = tl.sum(query, 0) * (scale / MEMBERS)

    first, each = tile * BLOCKS, tl.arange(0, BLOCKS)
    there = first + each < blocks
    offset = batch * bound_batch_stride + place // lists_a_head * bound_head_stride
    lowest_rows = rows_of(lowest_pointer + offset, first, each, bound_block_stride, dims, bound_dim_stride)
    highest_rows = rows_of(highest_pointer + offset, first, each, bound_block_stride, dims, bound_dim_stride)
    lowest = tl.load(lowest_rows, mask=there[:, None], other=0.0).to(tl.float32)
    highest = tl.load(highest_rows, mask=there[:, None], other=0.0).to(tl.float32)
    score = tl.sum(tl.maximum(chooser[None, :] * lowest, chooser[None, :] * highest), 1)
    tl.store(score_pointer + tl.cast(row, tl.int64) * blocks + first + each, score, mask=there)


def launch_scores(query, lowest, highest, scale, shared):
    """Launch over batch · lists · tiles of blocks. Returns float32 [batch, lists, blocks]."""
    batch, heads, _, head_dim = query.shape
    key_heads, blocks = lowest.shape[1:3]
    configuration, _ = choose("scores", query.dtype, head_dim)
    lists = key_heads if shared else heads
    score = torch.empty(batch, lists, blocks, dtype=torch.float32, device=query.device)
    if score.numel() == 0:
        return score
    if lowest.stride() != highest.stride():
        lowest, highest = lowest.contiguous(), highest.contiguous()
    members = heads // lists
    rectified_scores_kernel[(batch * lists * triton.cdiv(blocks, configuration.keys),)](
        query, lowest, highest, score,
        lists, lists // key_heads, blocks,
        query.stride(0), query.stride(1), query.stride(3), *lowest.stride(),
        scale,
        MEMBERS=members,
        MEMBER_ROWS=triton.next_power_of_2(members),
        HEAD_DIM=head_dim,
        BLOCKS=configuration.keys,
        num_warps=configuration.warps,
        num_stages=configuration.stages,
    )  # fmt: skip
    return score
