"""Flash attention, backward: scores are computed again from the saved log-sum-exp, and no two programs share a sum.

With P = exp(scale · query keyᵀ - log_sum_exp) and dP = grad_output valueᵀ the gradients are (eq. attention-backward)

- delta = Σ grad_output · output - grad_log_sum_exp and dS = P · (dP - delta),
- grad_value = Pᵀ grad_output, grad_query = scale · dS key, grad_key = scale · dSᵀ query.

Three launches: delta, then (grad_key, grad_value) by key blocks, then grad_query.
"""

import torch
import triton
import triton.language as tl

from kernels.attention.backward_query import attention_backward_query_kernel
from kernels.attention.configurations import choose
from kernels.attention.forward import is_visible
from kernels.tiles import LOG2_E, head_of, program_of, rows_of


@triton.jit
def attention_delta_kernel(
    output_pointer, grad_output_pointer, grad_log_sum_exp_pointer, delta_pointer,
    heads, query_time,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    VALUE_DIM: tl.constexpr, BLOCK_QUERY: tl.constexpr,
):  # fmt: skip
    """delta = Σ grad_output · output - grad_log_sum_exp, a number a query: [batch, heads, query_time] float32.

    One program owns BLOCK_QUERY queries of one head. output, grad_log_sum_exp and delta are contiguous.
    """
    tile, row = program_of(tl.cdiv(query_time, BLOCK_QUERY))
    first_row, rows, dims = tile * BLOCK_QUERY, tl.arange(0, BLOCK_QUERY), tl.arange(0, VALUE_DIM)
    there = first_row + rows < query_time
    line = tl.cast(row, tl.int64) * query_time
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    output_rows = rows_of(output_pointer + line * VALUE_DIM, first_row, rows, VALUE_DIM, dims, 1)
    grad_rows = rows_of(grad_output_pointer, first_row, rows, grad_time_stride, dims, grad_dim_stride)
    output = tl.load(output_rows, mask=there[:, None], other=0.0).to(tl.float32)
    grad_output = tl.load(grad_rows, mask=there[:, None], other=0.0).to(tl.float32)
    grad_log_sum_exp = tl.load(grad_log_sum_exp_pointer + line + first_row + rows, mask=there, other=0.0)
    delta = tl.sum(output * grad_output, 1) - grad_log_sum_exp
    tl.store(delta_pointer + line + first_row + rows, delta, mask=there)


@triton.jit
def absorb_queries(
    grad_key, grad_value, key, value,
    query_pointer, grad_output_pointer, log_sum_exp_pointer, delta_pointer,
    begin, end, offset,
    query_time_stride, query_dim_stride, grad_time_stride, grad_dim_stride,
    key_position, window, sinks, score_scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_QUERY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Queries begin..end add what they send back to one block of keys: grad_value += Pᵀ dO, grad_key += dSᵀ query.

    Everything is held turned, [keys, queries], so that no tile is transposed between its two products.
    """
    rows = tl.arange(0, BLOCK_QUERY)
    head_dims, value_dims = tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    for start in range(begin, end, BLOCK_QUERY):
        query_rows = rows_of(query_pointer, start, rows, query_time_stride, head_dims, query_dim_stride)
        grad_rows = rows_of(grad_output_pointer, start, rows, grad_time_stride, value_dims, grad_dim_stride)
        if MASKED:
            inside = start + rows < end
            query = tl.load(query_rows, mask=inside[:, None], other=0.0)
            grad_output = tl.load(grad_rows, mask=inside[:, None], other=0.0)
            log_sum_exp = tl.load(log_sum_exp_pointer + start + rows, mask=inside, other=0.0)
            delta = tl.load(delta_pointer + start + rows, mask=inside, other=0.0)
        else:
            query = tl.load(query_rows)
            grad_output = tl.load(grad_rows)
            log_sum_exp = tl.load(log_sum_exp_pointer + start + rows)
            delta = tl.load(delta_pointer + start + rows)
        scores = tl.dot(key, tl.trans(query), input_precision=PRECISION) * score_scale
        weight = tl.exp2(scores - (log_sum_exp * LOG2_E)[None, :])
        if MASKED:
            position = (offset + start + rows)[None, :]
            seen = is_visible(position, key_position[:, None], window, sinks, CAUSAL, WINDOWED)
            weight = tl.where(seen & inside[None, :], weight, 0.0)
        grad_value = tl.dot(weight.to(grad_output.dtype), grad_output, grad_value, input_precision=PRECISION)
        grad_weight = tl.dot(value, tl.trans(grad_output), input_precision=PRECISION)
        grad_scores = weight * (grad_weight - delta[None, :])
        grad_key = tl.dot(grad_scores.to(query.dtype), query, grad_key, input_precision=PRECISION)
    return grad_key, grad_value


@triton.jit
def attention_backward_key_value_kernel(
    query_pointer, key_pointer, value_pointer, grad_output_pointer, log_sum_exp_pointer, delta_pointer,
    grad_key_pointer, grad_value_pointer,
    heads, key_heads, query_time, key_time,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    window, sinks, scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_QUERY: tl.constexpr, BLOCK_KEY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_value = Σ Pᵀ grad_output, grad_key = scale · Σ dSᵀ query, over the query heads of a group.

    grad_key: [batch, key_heads, key_time, HEAD_DIM] and grad_value, contiguous, written in full. One program owns
    BLOCK_KEY keys of one key head and walks, head by head, the queries that see them: no two programs share a sum.
    """
    tile, row = program_of(tl.cdiv(key_time, BLOCK_KEY))
    first, keys, group = tile * BLOCK_KEY, tl.arange(0, BLOCK_KEY), heads // key_heads
    head_dims, value_dims = tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = first + keys < key_time
    key_pointer = head_of(key_pointer, row, key_heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, key_heads, value_batch_stride, value_head_stride)
    key_rows = rows_of(key_pointer, first, keys, key_time_stride, head_dims, key_dim_stride)
    value_rows = rows_of(value_pointer, first, keys, value_time_stride, value_dims, value_dim_stride)
    key = tl.load(key_rows, mask=there[:, None], other=0.0)
    value = tl.load(value_rows, mask=there[:, None], other=0.0)

    # Queries start..stop see some of these keys; between full_start and full_stop each sees all of them.
    offset = key_time - query_time
    start, stop, full_start = 0, query_time, 0
    full_stop = query_time // BLOCK_QUERY * BLOCK_QUERY
    if CAUSAL:
        start = tl.maximum(0, first - offset)
        diagonal = tl.maximum(0, first + BLOCK_KEY - 1 - offset - start)
        limit = query_time
        if WINDOWED:
            limit = tl.minimum(limit, first + window - offset)
            reach = tl.minimum(query_time, first + BLOCK_KEY - 1 + window - offset)
            stop = tl.where(first < sinks, query_time, tl.maximum(reach, start))
        full_start = tl.minimum(start + (diagonal + BLOCK_QUERY - 1) // BLOCK_QUERY * BLOCK_QUERY, stop)
        full_stop = full_start + tl.maximum(0, limit - full_start) // BLOCK_QUERY * BLOCK_QUERY
    grad_key = tl.zeros([BLOCK_KEY, HEAD_DIM], tl.float32)
    grad_value = tl.zeros([BLOCK_KEY, VALUE_DIM], tl.float32)
    for member in range(0, group):
        head = row * group + member  # counted over the batch, as row is
        line = tl.cast(head, tl.int64) * query_time
        queries = head_of(query_pointer, head, heads, query_batch_stride, query_head_stride)
        grad_outputs = head_of(grad_output_pointer, head, heads, grad_batch_stride, grad_head_stride)
        sums, deltas = log_sum_exp_pointer + line, delta_pointer + line
        if CAUSAL:
            grad_key, grad_value = absorb_queries(
                grad_key, grad_value, key, value, queries, grad_outputs, sums, deltas, start, full_start, offset,
                query_time_stride, query_dim_stride, grad_time_stride, grad_dim_stride,
                first + keys, window, sinks, scale * LOG2_E,
                HEAD_DIM, VALUE_DIM, BLOCK_QUERY, CAUSAL, WINDOWED, True, PRECISION,
            )  # fmt: skip
        grad_key, grad_value = absorb_queries(
            grad_key, grad_value, key, value, queries, grad_outputs, sums, deltas, full_start, full_stop, offset,
            query_time_stride, query_dim_stride, grad_time_stride, grad_dim_stride,
            first + keys, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_QUERY, CAUSAL, WINDOWED, False, PRECISION,
        )  # fmt: skip
        grad_key, grad_value = absorb_queries(
            grad_key, grad_value, key, value, queries, grad_outputs, sums, deltas, full_stop, stop, offset,
            query_time_stride, query_dim_stride, grad_time_stride, grad_dim_stride,
            first + keys, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_QUERY, CAUSAL, WINDOWED, True, PRECISION,
        )  # fmt: skip
    line = tl.cast(row, tl.int64) * key_time
    grad_key_rows = rows_of(grad_key_pointer + line * HEAD_DIM, first, keys, HEAD_DIM, head_dims, 1)
    grad_value_rows = rows_of(grad_value_pointer + line * VALUE_DIM, first, keys, VALUE_DIM, value_dims, 1)
    tl.store(grad_key_rows, (grad_key * scale).to(grad_key_pointer.dtype.element_ty), mask=there[:, None])
    tl.store(grad_value_rows, grad_value.to(grad_value_pointer.dtype.element_ty), mask=there[:, None])


def launch_backward(
    grad_output, grad_log_sum_exp, query, key, value, output, log_sum_exp, causal, window, sinks, scale
):
    """Gradients (grad_query, grad_key, grad_value) of the pair (output, log_sum_exp), in the inputs' dtype.

    grad_output: [batch, heads, time, value_dim]; grad_log_sum_exp, log_sum_exp: [batch, heads, time] float32.
    """
    batch, heads, query_time, head_dim = query.shape
    key_heads, key_time, value_dim = key.shape[1], key.shape[2], value.shape[3]
    grad_query, grad_key, grad_value = (
        torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in (query, key, value)
    )
    delta = torch.empty_like(log_sum_exp)
    by_key = choose("backward_key_value", query.dtype, head_dim, value_dim)
    by_query = choose("backward_query", query.dtype, head_dim, value_dim)
    if 0 in (batch, query_time):
        return grad_query, grad_key.zero_(), grad_value.zero_()
    attention_delta_kernel[(batch * heads * triton.cdiv(query_time, 64),)](
        output, grad_output, grad_log_sum_exp.contiguous(), delta,
        heads, query_time,
        *grad_output.stride(),
        VALUE_DIM=value_dim,
        BLOCK_QUERY=64,
        num_warps=4,
    )  # fmt: skip
    attention_backward_key_value_kernel[(batch * key_heads * triton.cdiv(key_time, by_key.block_key),)](
        query, key, value, grad_output, log_sum_exp, delta, grad_key, grad_value,
        heads, key_heads, query_time, key_time,
        *query.stride(), *key.stride(), *value.stride(), *grad_output.stride(),
        window or 0, sinks, scale,
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK_QUERY=by_key.block_query,
        BLOCK_KEY=by_key.block_key,
        CAUSAL=causal,
        WINDOWED=window is not None,
        PRECISION=by_key.precision,
        num_warps=by_key.warps,
        num_stages=by_key.stages,
    )  # fmt: skip
    attention_backward_query_kernel[(batch * heads * triton.cdiv(query_time, by_query.block_query),)](
        query, key, value, grad_output, log_sum_exp, delta, grad_query,
        heads, heads // key_heads, query_time, key_time,
        *query.stride(), *key.stride(), *value.stride(), *grad_output.stride(),
        window or 0, sinks, scale,
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK_QUERY=by_query.block_query,
        BLOCK_KEY=by_query.block_key,
        CAUSAL=causal,
        WINDOWED=window is not None,
        PRECISION=by_query.precision,
        num_warps=by_query.warps,
        num_stages=by_query.stages,
    )  # fmt: skip
    return grad_query, grad_key, grad_value
