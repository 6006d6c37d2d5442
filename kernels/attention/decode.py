"""Decoding: one query a head against a long cache. The keys are split between programs, and a second launch merges."""

import torch
import triton
import triton.language as tl

from kernels.attention.configurations import choose
from kernels.attention.forward import absorb
from kernels.merge import launch_merge, splits_for
from kernels.runtime import multiprocessors
from kernels.tiles import LOG2_E, program_of, rows_of


@triton.jit
def attention_decode_kernel(
    query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, key_time, splits, span,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    part_batch_stride, part_head_stride, part_split_stride,
    scale,
    GROUP: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of keys split · span … (split + 1) · span: normalised output and natural log-sum-exp, both float32.

    output: [batch, heads, splits, VALUE_DIM]; log_sum_exp: [batch, heads, splits] with the part_* strides. One program
    owns one split of one key head, for all GROUP query heads that share it, padded to ROWS: a cache row is read once.
    A split past the end stores output 0 and log_sum_exp -inf, the unit of the merge.
    """
    split, row = program_of(splits)
    batch, key_head = tl.cast(row // key_heads, tl.int64), tl.cast(row % key_heads, tl.int64)
    members, dims, value_dims = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = members < GROUP
    query_pointer += batch * query_batch_stride + key_head * GROUP * query_head_stride
    query_rows = rows_of(query_pointer, 0, members, query_head_stride, dims, query_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride

    begin = tl.minimum(split * span, key_time)
    end = tl.minimum(begin + span, key_time)
    full = begin + (end - begin) // BLOCK_KEY * BLOCK_KEY
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, begin, full,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        members, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, False, False, False, PRECISION,
    )  # fmt: skip
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, full, end,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        members, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, False, False, True, PRECISION,
    )  # fmt: skip

    safe = tl.where(total == 0.0, 1.0, total)
    place = batch * part_batch_stride + key_head * GROUP * part_head_stride + split * part_split_stride
    output_rows = rows_of(output_pointer + place * VALUE_DIM, 0, members, part_head_stride * VALUE_DIM, value_dims, 1)
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(safe)) / LOG2_E
    tl.store(log_sum_exp_pointer + place + tl.cast(members, tl.int64) * part_head_stride, log_sum_exp, mask=there)


def launch_decode(query, key, value, window, sinks, scale, splits=None):
    """Attention of one query a head: query [batch, heads, 1, head_dim]. Returns (output, log_sum_exp) as the forward.

    A window with sinks is two views of the cache whose parts are merged. splits: programs a head, chosen if None.
    """
    batch, heads, _, head_dim = query.shape
    key_heads, key_time, value_dim = key.shape[1], key.shape[2], value.shape[3]
    configuration = choose("decode", query.dtype, head_dim, value_dim)
    output = torch.empty(batch, heads, 1, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, 1, dtype=torch.float32, device=query.device)
    if batch * heads == 0:
        return output, log_sum_exp
    first = 0 if window is None else max(0, key_time - window)
    early = min(sinks, first)
    if splits is None:
        count = multiprocessors(query.device)
        splits = splits_for(key_time - first, batch * key_heads, configuration.block_key, count)
    columns = splits + bool(early)
    part_output = torch.empty(batch, heads, columns, value_dim, dtype=torch.float32, device=query.device)
    part_sum = torch.empty(batch, heads, columns, dtype=torch.float32, device=query.device)
    spans = [(first, key_time, splits, 0)] + ([(0, early, 1, splits)] if early else [])
    for start, stop, count, column in spans:
        # A span is a whole number of key blocks, so that only the last split is ragged.
        span = triton.cdiv(triton.cdiv(stop - start, count), configuration.block_key) * configuration.block_key
        attention_decode_kernel[(batch * key_heads * count,)](
            query, key[:, :, start:stop], value[:, :, start:stop], part_output[:, :, column:], part_sum[:, :, column:],
            key_heads, stop - start, count, span,
            query.stride(0), query.stride(1), query.stride(3), *key.stride(), *value.stride(), *part_sum.stride(),
            scale,
            GROUP=heads // key_heads,
            ROWS=max(16, triton.next_power_of_2(heads // key_heads)),
            HEAD_DIM=head_dim,
            VALUE_DIM=value_dim,
            BLOCK_KEY=configuration.block_key,
            PRECISION=configuration.precision,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    launch_merge(part_output, part_sum, output, log_sum_exp)
    return output, log_sum_exp
