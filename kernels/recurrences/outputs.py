"""Stage two: every chunk's outputs from the state before it, or, walked backwards, the gradients of its values."""

import torch
import triton
import triton.language as tl

from kernels.recurrences.configurations import choose
from kernels.recurrences.fading import between, fading, halves
from kernels.tiles import head_of, program_of, rows_of


@triton.jit
def add_faded_scores(
    scores, left, right, total,
    CHUNK: tl.constexpr, LEVELS: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """scores + Σ over a tile of key dimensions of left_n · right_m · what is left between n and m, others 0.

    The chunk is halved LEVELS times: each pair meets in the middle of one block, where both its factors are at most 1.
    """
    own = tl.sum(left.to(tl.float32) * right.to(tl.float32), 1)
    rows = tl.arange(0, CHUNK)
    scores += tl.where(rows[:, None] == rows[None, :], own[:, None], 0.0)
    for level in range(LEVELS):
        late, early, together = halves(total, level, CHUNK)
        faded_left = (left * (early if REVERSE else late)).to(left.dtype)
        faded_right = (right * (late if REVERSE else early)).to(right.dtype)
        met = tl.dot(faded_left, tl.trans(faded_right), input_precision=PRECISION)
        scores += tl.where(together, met, 0.0)
    return scores


@triton.jit
def gated_outputs_kernel(
    query_pointer, key_pointer, value_pointer, gate_pointer, states_pointer, output_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    gate_batch_stride, gate_head_stride, gate_time_stride, gate_dim_stride,
    scale, state_scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr, LEVELS: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr,
    VECTOR: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """output_n = scale · Σ over m ≤ n of (query_n · fading · key_m) value_m + state_scale · (query_n · entering) S

    REVERSE takes keys for queries, queries for keys, output gradients for values and dS after the chunk for S, sums
    over m ≥ n and fades by `leaving`: then the output is the gradient of the values     (eq. gated-backward)

    output: [batch, heads, time, VALUE_DIM], contiguous, written in full. One program owns one chunk and a tile of value
    dimensions of one head.
    """
    value_tiles: tl.constexpr = VALUE_DIM // BLOCK_VALUE
    tile, row = program_of(chunks * value_tiles)
    chunk = tile // value_tiles
    first, rows = chunk * CHUNK, tl.arange(0, CHUNK)
    there = first + rows < time
    value_dims = tile % value_tiles * BLOCK_VALUE + tl.arange(0, BLOCK_VALUE)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    gate_pointer = head_of(gate_pointer, row, heads, gate_batch_stride, gate_head_stride)
    states_pointer += (tl.cast(row, tl.int64) * chunks + chunk) * KEY_DIM * VALUE_DIM

    if not VECTOR:  # one gate per head: fading needs no key dimension, and comes once, after the products
        total, entering, leaving, _ = fading(gate_pointer, first, there, gate_time_stride, 0, rows, CHUNK, VECTOR)
    scores = tl.zeros([CHUNK, CHUNK], tl.float32)
    output = tl.zeros([CHUNK, BLOCK_VALUE], tl.float32)
    for start in range(0, KEY_DIM, BLOCK_KEY):
        dims = start + tl.arange(0, BLOCK_KEY)
        query_rows = rows_of(query_pointer, first, rows, query_time_stride, dims, query_dim_stride)
        key_rows = rows_of(key_pointer, first, rows, key_time_stride, dims, key_dim_stride)
        query = tl.load(query_rows, mask=there[:, None], other=0.0)
        key = tl.load(key_rows, mask=there[:, None], other=0.0)
        state = tl.load(states_pointer + dims[:, None] * VALUE_DIM + value_dims[None, :])
        if VECTOR:
            total, entering, leaving, _ = fading(
                gate_pointer, first, there, gate_time_stride, gate_dim_stride, dims, CHUNK, VECTOR
            )
            scores = add_faded_scores(scores, query, key, total, CHUNK, LEVELS, REVERSE, PRECISION)
            query = (query * (leaving if REVERSE else entering)).to(query.dtype)
        else:
            scores = tl.dot(query, tl.trans(key), scores, input_precision=PRECISION)
        output = tl.dot(query, state.to(query.dtype), output, input_precision=PRECISION)
    value_rows = rows_of(value_pointer, first, rows, value_time_stride, value_dims, value_dim_stride)
    value = tl.load(value_rows, mask=there[:, None], other=0.0)
    if not VECTOR:
        scores *= between(total, CHUNK, REVERSE)
        output *= leaving if REVERSE else entering
    scores = (scores * scale).to(value.dtype)
    output = tl.dot(scores, value, output * state_scale, input_precision=PRECISION)
    output_pointer += tl.cast(row, tl.int64) * time * VALUE_DIM
    output_rows = rows_of(output_pointer, first, rows, VALUE_DIM, value_dims, 1)
    tl.store(output_rows, output.to(output_pointer.dtype.element_ty), mask=there[:, None])


def launch_outputs(query, key, value, log_gate, states, *, scale, state_scale, reverse=False):
    """The outputs, [batch, heads, time, value_dim] in the value's dtype; reverse: see the kernel.

    Shapes as in `launch_states`, whose first result is `states`.
    """
    batch, heads, time, key_dim = query.shape
    value_dim, vector = value.shape[3], log_gate.ndim == 4
    chunk, configuration = choose("outputs", query.dtype, key_dim, value_dim, vector)
    chunks = triton.cdiv(time, chunk)
    output = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    programs = batch * heads * chunks * (value_dim // configuration.block_value)
    if programs:
        gated_outputs_kernel[(programs,)](
            query, key, value, log_gate, states, output,
            heads, time, chunks,
            *query.stride(), *key.stride(), *value.stride(), *log_gate.stride(), *(() if vector else (0,)),
            scale, state_scale,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            CHUNK=chunk,
            LEVELS=chunk.bit_length() - 1,
            BLOCK_KEY=configuration.block_key,
            BLOCK_VALUE=configuration.block_value,
            VECTOR=vector,
            REVERSE=reverse,
            PRECISION=configuration.precision,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return output
