"""Retention, the part that walks: states from chunk to chunk, and their gradients from chunk to chunk backwards."""

import torch
import triton
import triton.language as tl

from kernels.retention.configurations import choose
from kernels.tiles import head_of, program_of, rows_of, tile_of


@triton.jit
def retention_states_kernel(
    key_pointer, value_pointer, log2_decay_pointer, initial_pointer, states_pointer, final_pointer,
    heads, time, chunks,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """S[n+1] = decay^CHUNK · S[n] + (key · decay to the chunk's end)ᵀ value     (eq. retention-chunk)

    states: [batch, heads, chunks, KEY_DIM, VALUE_DIM] float32, the state before each chunk; final: the state after the
    last token. One program owns a tile of the state of one head and walks its chunks in order.
    """
    value_tiles: tl.constexpr = VALUE_DIM // BLOCK_VALUE
    tile, row = program_of(KEY_DIM // BLOCK_KEY * value_tiles)
    first_key, first_value = tile // value_tiles * BLOCK_KEY, tile % value_tiles * BLOCK_VALUE
    places, line = tl.arange(0, CHUNK), tl.cast(row, tl.int64) * chunks
    keys, values = first_key + tl.arange(0, BLOCK_KEY), first_value + tl.arange(0, BLOCK_VALUE)
    log2_decay = tl.load(log2_decay_pointer + row % heads)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    state = tl.load(tile_of(initial_pointer, row, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE))
    for chunk in range(0, chunks):
        before = tile_of(
            states_pointer, line + chunk, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE
        )
        tl.store(before, state)
        length = tl.minimum(CHUNK, time - chunk * CHUNK)  # the last chunk may be ragged: it fades by fewer steps
        there = places < length
        key_rows = rows_of(key_pointer, chunk * CHUNK, places, key_time_stride, keys, key_dim_stride)
        value_rows = rows_of(value_pointer, chunk * CHUNK, places, value_time_stride, values, value_dim_stride)
        key = tl.load(key_rows, mask=there[:, None], other=0.0)
        value = tl.load(value_rows, mask=there[:, None], other=0.0)
        leaving = tl.exp2(log2_decay * tl.maximum(length - 1 - places, 0))  # missing tokens are loaded as zeros
        left = (key.to(tl.float32) * leaving[:, None]).to(key.dtype)
        state = tl.dot(tl.trans(left), value, state * tl.exp2(log2_decay * length), input_precision=PRECISION)
    tl.store(tile_of(final_pointer, row, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE), state)


@triton.jit
def retention_grad_states_kernel(
    query_pointer, grad_output_pointer, log2_decay_pointer, grad_final_pointer, grad_states_pointer,
    grad_initial_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dS[n-1] = decay^CHUNK · dS[n] + scale · (query · decay from the chunk's start)ᵀ grad_output

    grad_states: [batch, heads, chunks, KEY_DIM, VALUE_DIM] float32, the gradient of the state *after* each chunk;
    grad_initial: that of the state before the first. One program owns a tile of one head and walks its chunks back.
    """
    value_tiles: tl.constexpr = VALUE_DIM // BLOCK_VALUE
    tile, row = program_of(KEY_DIM // BLOCK_KEY * value_tiles)
    first_key, first_value = tile // value_tiles * BLOCK_KEY, tile % value_tiles * BLOCK_VALUE
    places, line = tl.arange(0, CHUNK), tl.cast(row, tl.int64) * chunks
    keys, values = first_key + tl.arange(0, BLOCK_KEY), first_value + tl.arange(0, BLOCK_VALUE)
    log2_decay = tl.load(log2_decay_pointer + row % heads)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    entering = tl.exp2(log2_decay * (places + 1)) * scale
    grad_state = tl.load(
        tile_of(grad_final_pointer, row, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE)
    )
    for back in range(0, chunks):
        chunk = chunks - 1 - back
        after = tile_of(
            grad_states_pointer, line + chunk, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE
        )
        tl.store(after, grad_state)
        length = tl.minimum(CHUNK, time - chunk * CHUNK)
        there = (places < length)[:, None]
        query_rows = rows_of(query_pointer, chunk * CHUNK, places, query_time_stride, keys, query_dim_stride)
        grad_rows = rows_of(grad_output_pointer, chunk * CHUNK, places, grad_time_stride, values, grad_dim_stride)
        query = tl.load(query_rows, mask=there, other=0.0)
        grad_output = tl.load(grad_rows, mask=there, other=0.0)
        faded = (query.to(tl.float32) * entering[:, None]).to(query.dtype)
        kept = grad_state * tl.exp2(log2_decay * length)
        grad_state = tl.dot(tl.trans(faded), grad_output, kept, input_precision=PRECISION)
    tl.store(
        tile_of(grad_initial_pointer, row, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE),
        grad_state,
    )


def launch_states(key, value, log2_decay, initial, chunk):
    """Launch over batch · heads · tiles of the state. Returns (states before each chunk, final state), float32.

    key: [batch, heads, time, key_dim], value; log2_decay: [heads] float32; initial: contiguous float32.
    """
    batch, heads, time, key_dim = key.shape
    value_dim, chunks = value.shape[3], triton.cdiv(time, chunk)
    states = torch.empty(batch, heads, chunks, key_dim, value_dim, dtype=torch.float32, device=key.device)
    final = torch.empty(initial.shape, dtype=torch.float32, device=key.device)
    constants = choose("states", key.dtype, key_dim, value_dim)
    tiles = key_dim // constants["BLOCK_KEY"] * (value_dim // constants["BLOCK_VALUE"])
    retention_states_kernel[(batch * heads * tiles,)](
        key, value, log2_decay, initial, states, final,
        heads, time, chunks,
        *key.stride(), *value.stride(),
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        CHUNK=chunk,
        **constants,
    )  # fmt: skip
    return states, final


def launch_grad_states(query, grad_output, log2_decay, grad_final, scale, chunk):
    """Launch over batch · heads · tiles of the state. Returns (gradients of the states after each chunk, initial)."""
    batch, heads, time, key_dim = query.shape
    value_dim, chunks = grad_output.shape[3], triton.cdiv(time, chunk)
    grad_states = torch.empty(batch, heads, chunks, key_dim, value_dim, dtype=torch.float32, device=query.device)
    grad_initial = torch.empty(grad_final.shape, dtype=torch.float32, device=query.device)
    constants = choose("states", query.dtype, key_dim, value_dim)
    tiles = key_dim // constants["BLOCK_KEY"] * (value_dim // constants["BLOCK_VALUE"])
    retention_grad_states_kernel[(batch * heads * tiles,)](
        query, grad_output, log2_decay, grad_final, grad_states, grad_initial,
        heads, time, chunks,
        *query.stride(), *grad_output.stride(),
        scale,
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        CHUNK=chunk,
        **constants,
    )  # fmt: skip
    return grad_states, grad_initial
