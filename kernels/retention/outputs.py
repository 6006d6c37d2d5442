"""Retention, the part that runs in parallel: the outputs of a chunk from its tokens and the state before it."""

import torch
import triton
import triton.language as tl

from kernels.retention.configurations import choose
from kernels.tiles import head_of, program_of, rows_of, tile_of


@triton.jit
def fading(log2_decay, length, CHUNK: tl.constexpr):
    """decay^(i - j) for j ≤ i inside a chunk of `length` tokens, 0 elsewhere: float32 [CHUNK, CHUNK]."""
    places = tl.arange(0, CHUNK)
    distance = places[:, None] - places[None, :]
    seen = (distance >= 0) & (places < length)[:, None]
    return tl.where(seen, tl.exp2(log2_decay * tl.where(seen, distance, 0)), 0.0)


@triton.jit
def retention_outputs_kernel(
    query_pointer, key_pointer, value_pointer, log2_decay_pointer, states_pointer, output_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """output = scale · ((query keyᵀ ⊙ decay^(i-j)) value + decay^(i+1) · query S)     (eq. retention-chunk)

    S is the state before the chunk. output: [batch, heads, time, VALUE_DIM], contiguous, written in full. One program
    owns BLOCK_VALUE columns of the outputs of one chunk of one head, and walks the columns of query and key.
    """
    value_tiles: tl.constexpr = VALUE_DIM // BLOCK_VALUE
    tile, row = program_of(chunks * value_tiles)
    chunk, first_value = tile // value_tiles, tile % value_tiles * BLOCK_VALUE
    first = chunk * CHUNK
    places, values = tl.arange(0, CHUNK), first_value + tl.arange(0, BLOCK_VALUE)
    length = tl.minimum(CHUNK, time - first)
    there = (places < length)[:, None]
    log2_decay = tl.load(log2_decay_pointer + row % heads)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    scores = tl.zeros([CHUNK, CHUNK], tl.float32)
    across = tl.zeros([CHUNK, BLOCK_VALUE], tl.float32)
    for first_key in range(0, KEY_DIM, BLOCK_KEY):
        keys = first_key + tl.arange(0, BLOCK_KEY)
        query_rows = rows_of(query_pointer, first, places, query_time_stride, keys, query_dim_stride)
        key_rows = rows_of(key_pointer, first, places, key_time_stride, keys, key_dim_stride)
        query = tl.load(query_rows, mask=there, other=0.0)
        key = tl.load(key_rows, mask=there, other=0.0)
        number = tl.cast(row, tl.int64) * chunks + chunk
        state = tl.load(
            tile_of(states_pointer, number, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE)
        )
        across = tl.dot(query, state.to(query.dtype), across, input_precision=PRECISION)
        scores = tl.dot(query, tl.trans(key), scores, input_precision=PRECISION)
    value_rows = rows_of(value_pointer, first, places, value_time_stride, values, value_dim_stride)
    value = tl.load(value_rows, mask=there, other=0.0)
    fade = fading(log2_decay, length, CHUNK)
    scores = tl.where(fade > 0, scores * fade, 0.0)  # a hidden score may be infinite
    entering = tl.exp2(log2_decay * (places + 1))
    output = tl.dot(scores.to(value.dtype), value, across * entering[:, None], input_precision=PRECISION)
    output_pointer += tl.cast(row, tl.int64) * time * VALUE_DIM
    output_rows = rows_of(output_pointer, first, places, VALUE_DIM, values, 1)
    tl.store(output_rows, (output * scale).to(output_pointer.dtype.element_ty), mask=there)


def launch_outputs(query, key, value, log2_decay, states, scale, chunk):
    """Launch over batch · heads · chunks · tiles of the value. Returns [batch, heads, time, value_dim]."""
    batch, heads, time, key_dim = query.shape
    value_dim, chunks = value.shape[3], states.shape[2]
    output = torch.empty(batch, heads, time, value_dim, dtype=query.dtype, device=query.device)
    constants = choose("outputs", query.dtype, key_dim, value_dim)
    retention_outputs_kernel[(batch * heads * chunks * (value_dim // constants["BLOCK_VALUE"]),)](
        query, key, value, log2_decay, states, output,
        heads, time, chunks,
        *query.stride(), *key.stride(), *value.stride(),
        scale,
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        CHUNK=chunk,
        **constants,
    )  # fmt: skip
    return output
