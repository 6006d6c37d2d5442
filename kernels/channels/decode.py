"""Decoding over kept key channels: a launch for each group of heads with equally many, beside one for whole keys."""

import torch
import triton
import triton.language as tl

from kernels.attention import attention_decode_kernel
from kernels.channels.configurations import LIMITS, choose, width_of
from kernels.merge import launch_merge, splits_for
from kernels.runtime import multiprocessors
from kernels.tiles import LOG2_E, program_of, rows_of


@triton.jit
def absorb_channels(
    maximum, total, accumulator, query,
    key_pointer, value_pointer,
    begin, end,
    key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
    score_scale,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_KEY: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys begin..end join the running (maximum, total, accumulator): rows of CHANNELS in a tile that is WIDTH wide."""
    keys, dims, value_dims = tl.arange(0, BLOCK_KEY), tl.arange(0, WIDTH), tl.arange(0, VALUE_DIM)
    for start in range(begin, end, BLOCK_KEY):
        key_rows = rows_of(key_pointer, start, keys, key_time_stride, dims, key_dim_stride)
        value_rows = rows_of(value_pointer, start, keys, value_time_stride, value_dims, value_dim_stride)
        inside = start + keys < end
        if MASKED:
            key = tl.load(key_rows, mask=inside[:, None] & (dims < CHANNELS)[None, :], other=0.0)
            value = tl.load(value_rows, mask=inside[:, None], other=0.0)
        else:
            # Columns past CHANNELS belong to the next token: they are neither read nor counted.
            if CHANNELS < WIDTH:
                key = tl.load(key_rows, mask=(dims < CHANNELS)[None, :], other=0.0)
            else:
                key = tl.load(key_rows)
            value = tl.load(value_rows)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * score_scale
        if MASKED:
            scores = tl.where(inside[None, :], scores, float("-inf"))
        # A block is entered for one key at least, so that its maximum is finite and no weight can be nan.
        larger = tl.maximum(maximum, tl.max(scores, 1))
        weight = tl.exp2(scores - larger[:, None])
        rescale = tl.exp2(maximum - larger)
        total = total * rescale + tl.sum(weight, 1)
        accumulator = tl.dot(weight.to(value.dtype), value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger
    return maximum, total, accumulator


@triton.jit
def channels_decode_kernel(
    query_pointer, key_pointer, value_pointer, channels_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, key_time, splits, span,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    part_batch_stride, part_head_stride, part_split_stride,
    scale,
    GROUP: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of keys split · span … (split + 1) · span, of which CHANNELS channels were kept     (eq. channels)

    key: [batch, key_heads, key_time, CHANNELS], gathered when it was stored; channels: int64 [key_heads, CHANNELS],
    contiguous, by which the query is gathered here. output, log_sum_exp: as `attention_decode_kernel` stores them. One
    program owns one split of one key head for the GROUP query heads that share it, padded to ROWS.
    """
    split, row = program_of(splits)
    batch, key_head = tl.cast(row // key_heads, tl.int64), tl.cast(row % key_heads, tl.int64)
    members, dims, value_dims = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, VALUE_DIM)
    there = members < GROUP
    kept = tl.load(channels_pointer + key_head * CHANNELS + dims, mask=dims < CHANNELS, other=0)
    query_pointer += batch * query_batch_stride + key_head * GROUP * query_head_stride
    query_rows = rows_of(query_pointer, 0, members, query_head_stride, kept, query_dim_stride)
    query = tl.load(query_rows, mask=there[:, None] & (dims < CHANNELS)[None, :], other=0.0)
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride

    begin = tl.minimum(split * span, key_time)
    end = tl.minimum(begin + span, key_time)
    full = begin + (end - begin) // BLOCK_KEY * BLOCK_KEY
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    maximum, total, accumulator = absorb_channels(
        maximum, total, accumulator, query, key_pointer, value_pointer, begin, full,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride, scale * LOG2_E,
        CHANNELS, WIDTH, VALUE_DIM, BLOCK_KEY, False, PRECISION,
    )  # fmt: skip
    maximum, total, accumulator = absorb_channels(
        maximum, total, accumulator, query, key_pointer, value_pointer, full, end,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride, scale * LOG2_E,
        CHANNELS, WIDTH, VALUE_DIM, BLOCK_KEY, True, PRECISION,
    )  # fmt: skip

    safe = tl.where(total == 0.0, 1.0, total)
    place = batch * part_batch_stride + key_head * GROUP * part_head_stride + split * part_split_stride
    output_rows = rows_of(output_pointer + place * VALUE_DIM, 0, members, part_head_stride * VALUE_DIM, value_dims, 1)
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(safe)) / LOG2_E
    tl.store(log_sum_exp_pointer + place + tl.cast(members, tl.int64) * part_head_stride, log_sum_exp, mask=there)


def splits_of(query, dense_key, keys, value_dim):
    """(splits of the dense region, of the middle): programs a head, enough to fill the device."""
    count = multiprocessors(query.device)
    heads, tokens = query.shape[0] * dense_key.shape[1], max([0, *(key.shape[2] for key in keys)])
    block = choose(query.dtype, query.shape[3], value_dim).block_key
    return splits_for(dense_key.shape[2], heads, block, count), splits_for(tokens, heads, block, count) if tokens else 0


def launch_decode(query, dense_key, dense_value, keys, values, channels, scale, splits=None):
    """Attention of one query a head over whole keys and groups of pruned ones. Returns (output, log_sum_exp).

    Shapes as `effattn_core.channels.decode` takes them. splits: (dense region, middle), chosen if None. A launch for
    the dense region, one for each group, and the merge of all their parts.
    """
    batch, heads, _, head_dim = query.shape
    key_heads, value_dim = dense_key.shape[1], dense_value.shape[3]
    group, like = heads // key_heads, dict(dtype=torch.float32, device=query.device)
    if head_dim not in LIMITS:
        raise ValueError(f"the kernels take a head_dim among {LIMITS}; got {head_dim}: use implementation='torch'.")
    whole = choose(query.dtype, head_dim, value_dim)
    output = torch.empty(batch, heads, 1, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, 1, **like)
    if batch * heads == 0:
        return output, log_sum_exp
    dense_splits, splits = splits or splits_of(query, dense_key, keys, value_dim)
    columns = dense_splits + splits
    part_output = torch.empty(batch, heads, columns, value_dim, **like)
    part_sum = torch.empty(batch, heads, columns, **like)
    shared = dict(GROUP=group, ROWS=max(16, triton.next_power_of_2(group)), VALUE_DIM=value_dim)
    span = triton.cdiv(triton.cdiv(dense_key.shape[2], dense_splits), whole.block_key) * whole.block_key
    attention_decode_kernel[(batch * key_heads * dense_splits,)](
        query, dense_key, dense_value, part_output, part_sum,
        key_heads, dense_key.shape[2], dense_splits, span,
        query.stride(0), query.stride(1), query.stride(3), *dense_key.stride(), *dense_value.stride(),
        *part_sum.stride(), scale,
        HEAD_DIM=head_dim, BLOCK_KEY=whole.block_key, PRECISION=whole.precision,
        num_warps=whole.warps, num_stages=whole.stages, **shared,
    )  # fmt: skip
    first = 0
    for key, value, kept in zip(keys, values, channels, strict=True):
        mine = slice(first, first + key.shape[1] * group)
        first = mine.stop
        if splits == 0 or key.shape[1] == 0:
            continue
        narrow, row, count = query[:, mine], choose(query.dtype, key.shape[3], value_dim), key.shape[3]
        span = triton.cdiv(triton.cdiv(key.shape[2], splits), row.block_key) * row.block_key
        channels_decode_kernel[(batch * key.shape[1] * splits,)](
            narrow, key, value, kept.contiguous(),
            part_output[:, mine, dense_splits:], part_sum[:, mine, dense_splits:],
            key.shape[1], key.shape[2], splits, span,
            narrow.stride(0), narrow.stride(1), narrow.stride(3), *key.stride(), *value.stride(), *part_sum.stride(),
            scale,
            CHANNELS=count, WIDTH=width_of(count), BLOCK_KEY=row.block_key, PRECISION=row.precision,
            num_warps=row.warps, num_stages=row.stages, **shared,
        )  # fmt: skip
    # Heads that keep no channel have no middle: empty parts, the unit of the merge.
    part_output[:, first:, dense_splits:], part_sum[:, first:, dense_splits:] = 0.0, float("-inf")
    launch_merge(part_output, part_sum, output, log_sum_exp)
    return output, log_sum_exp
