"""Decoding over a list of blocks: the list is split between programs, the heads of a group ride in one tile."""

import torch
import triton
import triton.language as tl

from kernels.merge import launch_merge, splits_for
from kernels.rectified.configurations import choose
from kernels.runtime import multiprocessors
from kernels.tiles import LOG2_E, program_of, rows_of


@triton.jit
def rectified_decode_kernel(
    query_pointer, key_pointer, value_pointer, block_pointer, output_pointer, log_sum_exp_pointer,
    lists, lists_a_head, count, key_time, splits, span,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    part_batch_stride, part_head_stride, part_split_stride,
    scale,
    MEMBERS: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, TILE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of entries split · span … (split + 1) · span of one list of blocks     (eq. resa-attention)

    block: int32 [batch, lists, count], contiguous; an entry of -1 is skipped. output: [batch, heads, splits, VALUE_DIM]
    and log_sum_exp: [batch, heads, splits], float32, with the part_* strides. One program owns one split of one list,
    for the MEMBERS query heads that share it, padded to ROWS. A tile is TILE blocks: its rows are gathered by pointers.
    A split that holds no key stores output 0 and log_sum_exp -inf, the unit of the merge.
    """
    split, row = program_of(splits)
    batch, place = tl.cast(row // lists, tl.int64), tl.cast(row % lists, tl.int64)
    members, dims, value_dims = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = members < MEMBERS
    query_pointer += batch * query_batch_stride + place * MEMBERS * query_head_stride
    query_rows = rows_of(query_pointer, 0, members, query_head_stride, dims, query_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key_pointer += batch * key_batch_stride + place // lists_a_head * key_head_stride
    value_pointer += batch * value_batch_stride + place // lists_a_head * value_head_stride
    block_pointer += tl.cast(row, tl.int64) * count

    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    end = tl.minimum(split * span + span, count)
    for start in range(split * span, end, TILE):
        entries = start + tl.arange(0, TILE)
        block = tl.load(block_pointer + entries, mask=entries < end, other=-1)
        token = tl.reshape(block[:, None] * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)[None, :], [TILE * BLOCK_SIZE])
        # A block of -1 gives tokens below zero; those past the end are of the last block, which may be ragged.
        inside = (token >= 0) & (token < key_time)
        key_rows = rows_of(key_pointer, 0, token, key_time_stride, dims, key_dim_stride)
        value_rows = rows_of(value_pointer, 0, token, value_time_stride, value_dims, value_dim_stride)
        key = tl.load(key_rows, mask=inside[:, None], other=0.0)
        value = tl.load(value_rows, mask=inside[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * (scale * LOG2_E)
        scores = tl.where(inside[None, :], scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)  # nothing seen yet: weights are 0, not nan
        weight = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(maximum - shift)
        total = total * rescale + tl.sum(weight, 1)
        accumulator = tl.dot(weight.to(value.dtype), value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger

    safe = tl.where(total == 0.0, 1.0, total)
    part = batch * part_batch_stride + place * MEMBERS * part_head_stride + split * part_split_stride
    output_rows = rows_of(output_pointer + part * VALUE_DIM, 0, members, part_head_stride * VALUE_DIM, value_dims, 1)
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(safe)) / LOG2_E
    tl.store(log_sum_exp_pointer + part + tl.cast(members, tl.int64) * part_head_stride, log_sum_exp, mask=there)


def launch_decode(query, key, value, blocks, block_size, scale, splits=None):
    """Launch over batch · lists · splits, then merge. Shapes as in `effattn_core.rectified.block_attention`.

    Returns (output in the query's dtype, log_sum_exp float32). splits: programs a list, chosen if None. Raises
    ValueError for a block size that is not a power of two up to 128.
    """
    batch, heads, _, head_dim = query.shape
    lists, count, value_dim = blocks.shape[1], blocks.shape[2], value.shape[3]
    configuration, precision = choose("decode", query.dtype, head_dim, value_dim)
    if block_size not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise ValueError(f"the kernel takes a block_size that is a power of two up to 128; it is {block_size}.")
    output = torch.empty(batch, heads, 1, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, 1, dtype=torch.float32, device=query.device)
    if batch * heads == 0:
        return output, log_sum_exp
    tile = max(1, configuration.keys // block_size)
    if splits is None:
        rows = count * block_size
        splits = splits_for(rows, batch * lists, tile * block_size, multiprocessors(query.device))
    # A span is a whole number of tiles, so that only the last split is ragged.
    span = max(1, triton.cdiv(triton.cdiv(count, splits), tile)) * tile
    part_output = torch.empty(batch, heads, splits, value_dim, dtype=torch.float32, device=query.device)
    part_sum = torch.empty(batch, heads, splits, dtype=torch.float32, device=query.device)
    rectified_decode_kernel[(batch * lists * splits,)](
        query, key, value, blocks.to(torch.int32).contiguous(), part_output, part_sum,
        lists, lists // key.shape[1], count, key.shape[2], splits, span,
        query.stride(0), query.stride(1), query.stride(3), *key.stride(), *value.stride(), *part_sum.stride(),
        scale,
        MEMBERS=heads // lists,
        ROWS=max(configuration.rows, triton.next_power_of_2(heads // lists)),
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK_SIZE=block_size,
        TILE=tile,
        PRECISION=precision,
        num_warps=configuration.warps,
        num_stages=configuration.stages,
    )  # fmt: skip
    launch_merge(part_output, part_sum, output, log_sum_exp)
    return output, log_sum_exp
