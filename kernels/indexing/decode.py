"""Reading the chosen rows: copied together once for all layers, and attention over them, split and merged."""

import torch
import triton
import triton.language as tl

from kernels.attention.configurations import LOG2_E
from kernels.attention.decode import attention_merge_kernel, splits_for
from kernels.attention.forward import rows_of
from kernels.indexing.configurations import choose, multiprocessors


@triton.jit
def indexing_gather_kernel(
    key_pointer, value_pointer, row_pointer, near_key_pointer, near_value_pointer,
    key_heads, count,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """near[i] = cache[rows[i]], zeros for a row of -1.

    near_key: [batch, key_heads, count, HEAD_DIM] and near_value, contiguous, written in full. One program owns BLOCK
    entries of the list for one key head.
    """
    tile, row = tl.program_id(0), tl.cast(tl.program_id(1), tl.int64)
    batch, key_head = row // key_heads, row % key_heads
    entries, dims, value_dims = tile * BLOCK + tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    listed = entries < count
    token = tl.cast(tl.load(row_pointer + batch * count + entries, mask=listed, other=-1), tl.int64)
    there = (token >= 0)[:, None]
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride
    key = tl.load(key_pointer + token[:, None] * key_time_stride + dims[None, :] * key_dim_stride,
                  mask=there, other=0.0)  # fmt: skip
    value = tl.load(value_pointer + token[:, None] * value_time_stride + value_dims[None, :] * value_dim_stride,
                    mask=there, other=0.0)  # fmt: skip
    near = (row * count + entries)[:, None]
    tl.store(near_key_pointer + near * HEAD_DIM + dims[None, :], key, mask=listed[:, None])
    tl.store(near_value_pointer + near * VALUE_DIM + value_dims[None, :], value, mask=listed[:, None])


@triton.jit
def indexing_attention_kernel(
    query_pointer, key_pointer, value_pointer, row_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, count, span,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    part_batch_stride, part_head_stride, part_split_stride,
    scale,
    GROUP: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK: tl.constexpr, GATHERED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of entries split · span … (split + 1) · span of a list of rows     (eq. clsa-attention)

    row: int32 [batch, count], contiguous; an entry below 0 is skipped. GATHERED: entry i's key lies at i; else at its
    row. output: [batch, heads, splits, VALUE_DIM] and log_sum_exp: [batch, heads, splits], float32, with the part_*
    strides. One program owns one split of one key head, for all GROUP query heads that share it, padded to ROWS. A
    split without a key stores output 0 and log_sum_exp -inf, the unit of the merge.
    """
    split, head = tl.program_id(0), tl.program_id(1)
    batch, key_head = tl.cast(head // key_heads, tl.int64), tl.cast(head % key_heads, tl.int64)
    members, dims, value_dims = tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = members < GROUP
    query_pointer += batch * query_batch_stride + key_head * GROUP * query_head_stride
    query_rows = rows_of(query_pointer, 0, members, query_head_stride, dims, query_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride

    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    end = tl.minimum(split * span + span, count)
    for start in range(split * span, end, BLOCK):
        entries = start + tl.arange(0, BLOCK)
        token = tl.load(row_pointer + batch * count + entries, mask=entries < end, other=-1)
        inside = token >= 0
        far = tl.cast(entries if GATHERED else token, tl.int64)[:, None]
        key = tl.load(key_pointer + far * key_time_stride + dims[None, :] * key_dim_stride,
                      mask=inside[:, None], other=0.0)  # fmt: skip
        value = tl.load(value_pointer + far * value_time_stride + value_dims[None, :] * value_dim_stride,
                        mask=inside[:, None], other=0.0)  # fmt: skip
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
    part = batch * part_batch_stride + key_head * GROUP * part_head_stride + split * part_split_stride
    output_rows = rows_of(output_pointer + part * VALUE_DIM, 0, members, part_head_stride * VALUE_DIM, value_dims, 1)
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(safe)) / LOG2_E
    tl.store(log_sum_exp_pointer + part + members * part_head_stride, log_sum_exp, mask=there)


def launch_gather(key, value, rows):
    """Launch over (tiles of the list, batch · key_heads). Returns (near_key, near_value), as `gather_rows`."""
    batch, key_heads, _, head_dim = key.shape
    count, value_dim = rows.shape[1], value.shape[3]
    configuration, _ = choose("gather", key.dtype, head_dim, value_dim)
    near_key = torch.empty(batch, key_heads, count, head_dim, dtype=key.dtype, device=key.device)
    near_value = torch.empty(batch, key_heads, count, value_dim, dtype=key.dtype, device=key.device)
    grid = (triton.cdiv(count, configuration.keys), batch * key_heads)
    if 0 not in grid:
        indexing_gather_kernel[grid](
            key, value, rows.to(torch.int32).contiguous(), near_key, near_value,
            key_heads, count,
            *key.stride(), *value.stride(),
            HEAD_DIM=head_dim,
            VALUE_DIM=value_dim,
            BLOCK=configuration.keys,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return near_key, near_value


def launch_attention(query, key, value, rows, gathered_already, scale, splits=None):
    """Launch over (splits, batch · key_heads), then merge. Shapes as in `effattn_core.indexing.row_attention`.

    Returns (output in the query's dtype, log_sum_exp float32). splits: programs a key head, chosen if None.
    """
    batch, heads, _, head_dim = query.shape
    key_heads, count, value_dim = key.shape[1], rows.shape[1], value.shape[3]
    configuration, precision = choose("attention", query.dtype, head_dim, value_dim)
    output = torch.empty(batch, heads, 1, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, 1, dtype=torch.float32, device=query.device)
    if batch * heads == 0:
        return output, log_sum_exp
    if splits is None:
        splits = splits_for(count, batch * key_heads, configuration.keys, multiprocessors(query.device))
    # A span is a whole number of tiles, so that only the last split is ragged.
    span = max(1, triton.cdiv(triton.cdiv(count, splits), configuration.keys)) * configuration.keys
    part_output = torch.empty(batch, heads, splits, value_dim, dtype=torch.float32, device=query.device)
    part_sum = torch.empty(batch, heads, splits, dtype=torch.float32, device=query.device)
    indexing_attention_kernel[(splits, batch * key_heads)](
        query, key, value, rows.to(torch.int32).contiguous(), part_output, part_sum,
        key_heads, count, span,
        query.stride(0), query.stride(1), query.stride(3), *key.stride(), *value.stride(), *part_sum.stride(),
        scale,
        GROUP=heads // key_heads,
        ROWS=max(16, triton.next_power_of_2(heads // key_heads)),
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK=configuration.keys,
        GATHERED=gathered_already,
        PRECISION=precision,
        num_warps=configuration.warps,
        num_stages=configuration.stages,
    )  # fmt: skip
    attention_merge_kernel[(batch * heads,)](
        part_output, part_sum, output, log_sum_exp,
        splits,
        VALUE_DIM=value_dim,
        SPLITS=triton.next_power_of_2(splits),
        num_warps=4,
    )  # fmt: skip
    return output, log_sum_exp
