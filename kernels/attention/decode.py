"""Decoding: one query a head against a long cache. The keys are split between programs, and a second launch merges."""

import torch
import triton
import triton.language as tl

from kernels.attention.configurations import LOG2_E, choose
from kernels.attention.forward import absorb, rows_of
from kernels.runtime import multiprocessors


@triton.jit
def attention_decode_kernel(
    query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, key_time, span,
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
    split, row = tl.program_id(0), tl.program_id(1)
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
    tl.store(log_sum_exp_pointer + place + members * part_head_stride, log_sum_exp, mask=there)


@triton.jit
def attention_merge_kernel(
    part_output_pointer, part_log_sum_exp_pointer, output_pointer, log_sum_exp_pointer,
    splits,
    VALUE_DIM: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """output = Σ exp(log_sum_exp_k - log_sum_exp) · output_k over the splits of one head     (eq. merge)

    All tensors contiguous; one program owns one head of one batch item; SPLITS is splits rounded up to a power of two.
    """
    row = tl.cast(tl.program_id(0), tl.int64)
    parts, dims = tl.arange(0, SPLITS), tl.arange(0, VALUE_DIM)
    there = parts < splits
    sums = tl.load(part_log_sum_exp_pointer + row * splits + parts, mask=there, other=float("-inf"))
    largest = tl.max(sums, 0)
    # Where every split is empty, weigh by exp(-inf) = 0 and divide by 1: the output is 0, its log-sum-exp -inf.
    weight = tl.exp2((sums - tl.where(largest == float("-inf"), 0.0, largest)) * LOG2_E)
    total = tl.sum(weight, 0)
    total = tl.where(total == 0.0, 1.0, total)
    rows = rows_of(part_output_pointer + row * splits * VALUE_DIM, 0, parts, VALUE_DIM, dims, 1)
    output = tl.sum(tl.load(rows, mask=there[:, None], other=0.0) * weight[:, None], 0) / total
    tl.store(output_pointer + row * VALUE_DIM + dims, output.to(output_pointer.dtype.element_ty))
    tl.store(log_sum_exp_pointer + row, largest + tl.log2(total) / LOG2_E)


def splits_for(key_time, programs, block_key, multiprocessors):
    """How many programs share a head's keys: enough to fill the device, each with at least four blocks."""
    wanted = triton.cdiv(2 * multiprocessors, max(programs, 1))
    return max(1, min(wanted, triton.cdiv(key_time, 4 * block_key), 128))


def launch_merge(part_output, part_sum, output, log_sum_exp):
    """Merge the Parts of all splits into output and log_sum_exp, whose leading axes they share: a program a row.

    part_output: [..., splits, value_dim], part_sum: [..., splits], float32, contiguous.
    """
    *_, splits, value_dim = part_output.shape
    attention_merge_kernel[(log_sum_exp.numel(),)](
        part_output, part_sum, output, log_sum_exp,
        splits,
        VALUE_DIM=value_dim,
        SPLITS=triton.next_power_of_2(splits),
        num_warps=4,
    )  # fmt: skip


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
        attention_decode_kernel[(count, batch * key_heads)](
            query, key[:, :, start:stop], value[:, :, start:stop], part_output[:, :, column:], part_sum[:, :, column:],
            key_heads, stop - start, span,
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
