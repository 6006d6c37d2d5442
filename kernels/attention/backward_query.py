"""Flash attention, backward by queries: the last of the three launches of `kernels.attention.backward`."""

import triton
import triton.language as tl

from kernels.attention.forward import is_visible, key_spans
from kernels.tiles import LOG2_E, head_of, program_of, rows_of


@triton.jit
def absorb_keys(
    grad_query, query, grad_output, log_sum_exp, delta,
    key_pointer, value_pointer,
    begin, end,
    key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
    position, window, sinks, score_scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_KEY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys begin..end add what they send back to one block of queries: grad_query += dS key."""
    keys = tl.arange(0, BLOCK_KEY)
    head_dims, value_dims = tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    for start in range(begin, end, BLOCK_KEY):
        key_rows = rows_of(key_pointer, start, keys, key_time_stride, head_dims, key_dim_stride)
        value_rows = rows_of(value_pointer, start, keys, value_time_stride, value_dims, value_dim_stride)
        if MASKED:
            inside = start + keys < end
            key = tl.load(key_rows, mask=inside[:, None], other=0.0)
            value = tl.load(value_rows, mask=inside[:, None], other=0.0)
        else:
            key = tl.load(key_rows)
            value = tl.load(value_rows)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * score_scale
        weight = tl.exp2(scores - (log_sum_exp * LOG2_E)[:, None])
        if MASKED:
            seen = is_visible(position[:, None], (start + keys)[None, :], window, sinks, CAUSAL, WINDOWED)
            weight = tl.where(seen & inside[None, :], weight, 0.0)
        grad_weight = tl.dot(grad_output, tl.trans(value), input_precision=PRECISION)
        grad_scores = weight * (grad_weight - delta[:, None])
        grad_query = tl.dot(grad_scores.to(key.dtype), key, grad_query, input_precision=PRECISION)
    return grad_query


@triton.jit
def attention_backward_query_kernel(
    query_pointer, key_pointer, value_pointer, grad_output_pointer, log_sum_exp_pointer, delta_pointer,
    grad_query_pointer,
    heads, group, query_time, key_time,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    window, sinks, scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_QUERY: tl.constexpr, BLOCK_KEY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_query = scale · Σ dS key, [batch, heads, query_time, HEAD_DIM], contiguous, written in full.

    One program owns BLOCK_QUERY queries of one head and walks the same keys as the forward pass.
    """
    tile, row = program_of(tl.cdiv(query_time, BLOCK_QUERY))
    first_row, rows, key_heads = tile * BLOCK_QUERY, tl.arange(0, BLOCK_QUERY), heads // group
    head_dims, value_dims = tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = first_row + rows < query_time
    line = tl.cast(row, tl.int64) * query_time
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    key_pointer = head_of(key_pointer, row // group, key_heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row // group, key_heads, value_batch_stride, value_head_stride)
    query_rows = rows_of(query_pointer, first_row, rows, query_time_stride, head_dims, query_dim_stride)
    grad_rows = rows_of(grad_output_pointer, first_row, rows, grad_time_stride, value_dims, grad_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    grad_output = tl.load(grad_rows, mask=there[:, None], other=0.0)
    log_sum_exp = tl.load(log_sum_exp_pointer + line + first_row + rows, mask=there, other=0.0)
    delta = tl.load(delta_pointer + line + first_row + rows, mask=there, other=0.0)

    first = key_time - query_time + first_row
    last = tl.minimum(first + BLOCK_QUERY, key_time) - 1
    early, start, full_start, full_stop, stop = key_spans(
        first, last, key_time, window, sinks, BLOCK_QUERY, BLOCK_KEY, CAUSAL, WINDOWED
    )
    grad_query = tl.zeros([BLOCK_QUERY, HEAD_DIM], tl.float32)
    if WINDOWED:
        grad_query = absorb_keys(
            grad_query, query, grad_output, log_sum_exp, delta, key_pointer, value_pointer, 0, early,
            key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
            first + rows, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
        )  # fmt: skip
        grad_query = absorb_keys(
            grad_query, query, grad_output, log_sum_exp, delta, key_pointer, value_pointer, start, full_start,
            key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
            first + rows, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
        )  # fmt: skip
    grad_query = absorb_keys(
        grad_query, query, grad_output, log_sum_exp, delta, key_pointer, value_pointer, full_start, full_stop,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        first + rows, window, sinks, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, False, PRECISION,
    )  # fmt: skip
    grad_query = absorb_keys(
        grad_query, query, grad_output, log_sum_exp, delta, key_pointer, value_pointer, full_stop, stop,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        first + rows, window, sinks, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
    )  # fmt: skip
    grad_query_rows = rows_of(grad_query_pointer + line * HEAD_DIM, first_row, rows, HEAD_DIM, head_dims, 1)
    tl.store(grad_query_rows, (grad_query * scale).to(grad_query_pointer.dtype.element_ty), mask=there[:, None])
