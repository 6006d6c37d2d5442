"""Flash attention, forward: a block of queries walks the keys that it can see, and never stores a score."""

import torch
import triton
import triton.language as tl

from kernels.attention.configurations import choose
from kernels.tiles import LOG2_E, head_of, program_of, rows_of


@triton.jit
def is_visible(query_position, key_position, window, sinks, CAUSAL: tl.constexpr, WINDOWED: tl.constexpr):
    """Which key each query may see: bool [queries, keys], or [keys, queries] if the positions are turned that way."""
    distance = query_position - key_position
    seen = (distance >= 0) if CAUSAL else (distance == distance)
    if WINDOWED:
        seen = seen & ((distance < window) | (key_position < sinks))
    return seen


@triton.jit
def key_spans(
    first, last, key_time, window, sinks,
    ROWS: tl.constexpr, BLOCK_KEY: tl.constexpr, CAUSAL: tl.constexpr, WINDOWED: tl.constexpr,
):  # fmt: skip
    """The keys that queries at positions first..last see: sinks [0, early), then [start, stop) in three stretches.

    Between full_start and full_stop every query of the block sees every key: those blocks need no mask.
    """
    start, early, stop, full_start = 0, 0, key_time, 0
    full_stop = key_time // BLOCK_KEY * BLOCK_KEY
    if CAUSAL:
        stop = last + 1
        if WINDOWED:
            start = tl.maximum(0, first - window + 1)
            early = tl.minimum(sinks, start)
            edge = tl.maximum(0, first + ROWS - window - start)  # keys that the block's last row no longer sees
            full_start = tl.minimum(start + (edge + BLOCK_KEY - 1) // BLOCK_KEY * BLOCK_KEY, stop)
        full_stop = full_start + tl.maximum(0, first + 1 - full_start) // BLOCK_KEY * BLOCK_KEY
    return early, start, full_start, full_stop, stop


@triton.jit
def absorb(
    maximum, total, accumulator, query,
    key_pointer, value_pointer,
    begin, end,
    key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
    position, window, sinks, score_scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_KEY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Keys begin..end join the running (maximum, total, accumulator) of the online softmax, a block at a time."""
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
        if MASKED:
            seen = is_visible(position[:, None], (start + keys)[None, :], window, sinks, CAUSAL, WINDOWED)
            scores = tl.where(seen & inside[None, :], scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, 1))
        shift = larger
        if MASKED:  # a row that has seen no key yet: subtract 0, so that its weights are 0 and not nan
            shift = tl.where(larger == float("-inf"), 0.0, larger)
        weight = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(maximum - shift)
        total = total * rescale + tl.sum(weight, 1)
        accumulator = tl.dot(weight.to(value.dtype), value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger
    return maximum, total, accumulator


@triton.jit
def attention_forward_kernel(
    query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer,
    heads, group, query_time, key_time,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    window, sinks, scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_QUERY: tl.constexpr, BLOCK_KEY: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOWED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """output = softmax(scale · query keyᵀ) value, log_sum_exp = ln Σ exp(scale · query keyᵀ)     (eq. online-softmax)

    output: [batch, heads, query_time, VALUE_DIM] and log_sum_exp: [batch, heads, query_time], contiguous, written in
    full. One program owns BLOCK_QUERY queries of one head; the heads of a group read the same keys.
    """
    blocks = tl.cdiv(query_time, BLOCK_QUERY)
    tile, row = program_of(blocks)
    # The longest rows start first: under a causal mask the last block has the most keys to walk.
    first_row, rows = (blocks - 1 - tile) * BLOCK_QUERY, tl.arange(0, BLOCK_QUERY)
    there = first_row + rows < query_time
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row // group, heads // group, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row // group, heads // group, value_batch_stride, value_head_stride)
    query_rows = rows_of(query_pointer, first_row, rows, query_time_stride, tl.arange(0, HEAD_DIM), query_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)

    first = key_time - query_time + first_row
    last = tl.minimum(first + BLOCK_QUERY, key_time) - 1
    early, start, full_start, full_stop, stop = key_spans(
        first, last, key_time, window, sinks, BLOCK_QUERY, BLOCK_KEY, CAUSAL, WINDOWED
    )
    maximum = tl.full([BLOCK_QUERY], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_QUERY], tl.float32)
    accumulator = tl.zeros([BLOCK_QUERY, VALUE_DIM], tl.float32)
    # In order: the sinks, the ragged left edge of the window, the blocks seen whole, the diagonal.
    if WINDOWED:
        maximum, total, accumulator = absorb(
            maximum, total, accumulator, query, key_pointer, value_pointer, 0, early,
            key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
            first + rows, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
        )  # fmt: skip
        maximum, total, accumulator = absorb(
            maximum, total, accumulator, query, key_pointer, value_pointer, start, full_start,
            key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
            first + rows, window, sinks, scale * LOG2_E,
            HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
        )  # fmt: skip
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, full_start, full_stop,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        first + rows, window, sinks, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, False, PRECISION,
    )  # fmt: skip
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, full_stop, stop,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        first + rows, window, sinks, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, CAUSAL, WINDOWED, True, PRECISION,
    )  # fmt: skip

    total = tl.where(total == 0.0, 1.0, total)  # only rows past the end, which are not stored
    output_pointer += tl.cast(row, tl.int64) * query_time * VALUE_DIM
    output_rows = rows_of(output_pointer, first_row, rows, VALUE_DIM, tl.arange(0, VALUE_DIM), 1)
    output = (accumulator / total[:, None]).to(output_pointer.dtype.element_ty)
    tl.store(output_rows, output, mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(total)) / LOG2_E
    tl.store(log_sum_exp_pointer + tl.cast(row, tl.int64) * query_time + first_row + rows, log_sum_exp, mask=there)


def launch_forward(query, key, value, causal, window, sinks, scale):
    """Launch the kernel over batch · heads · query blocks. Shapes as `effattn_core.attention.attention` takes them.

    Returns (output: [batch, heads, time, value_dim] in the query's dtype, log_sum_exp: [batch, heads, time] float32).
    """
    batch, heads, query_time, head_dim = query.shape
    value_dim = value.shape[3]
    configuration = choose("forward", query.dtype, head_dim, value_dim)
    output = torch.empty(batch, heads, query_time, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, query_time, dtype=torch.float32, device=query.device)
    programs = batch * heads * triton.cdiv(query_time, configuration.block_query)
    if programs:
        attention_forward_kernel[(programs,)](
            query, key, value, output, log_sum_exp,
            heads, heads // key.shape[1], query_time, key.shape[2],
            *query.stride(), *key.stride(), *value.stride(),
            window or 0, sinks, scale,
            HEAD_DIM=head_dim,
            VALUE_DIM=value_dim,
            BLOCK_QUERY=configuration.block_query,
            BLOCK_KEY=configuration.block_key,
            CAUSAL=causal,
            WINDOWED=window is not None,
            PRECISION=configuration.precision,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return output, log_sum_exp
