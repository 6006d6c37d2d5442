"""Retention, backward: the gradients of a chunk from its tokens, the state before it and the gradient after it.

With A = scale · (query keyᵀ ⊙ decay^(i-j)), dA = scale · (grad_output valueᵀ ⊙ decay^(i-j)), S the state before the
chunk and dS the gradient of the state after it (eq. retention-backward):

- grad_value = Aᵀ grad_output + decay^(C-1-j) · key dS,
- grad_query = dA key + scale · decay^(i+1) · grad_output Sᵀ, grad_key = dAᵀ query + decay^(C-1-j) · value dSᵀ.

No two programs add into the same place.
"""

import torch
import triton
import triton.language as tl

from kernels.retention.configurations import choose
from kernels.retention.outputs import fading
from kernels.tiles import head_of, program_of, rows_of, tile_of


@triton.jit
def retention_grad_value_kernel(
    query_pointer, key_pointer, grad_output_pointer, log2_decay_pointer, grad_states_pointer, grad_value_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_value = Aᵀ grad_output + decay^(C-1-j) · key dS

    grad_value: [batch, heads, time, VALUE_DIM], contiguous, written in full. One program owns BLOCK_VALUE columns of
    one chunk of one head, and walks the columns of query and key.
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
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    # Held turned, [keys, queries], so that the weights are not transposed between their two products.
    turned = tl.zeros([CHUNK, CHUNK], tl.float32)
    across = tl.zeros([CHUNK, BLOCK_VALUE], tl.float32)
    for first_key in range(0, KEY_DIM, BLOCK_KEY):
        keys = first_key + tl.arange(0, BLOCK_KEY)
        query_rows = rows_of(query_pointer, first, places, query_time_stride, keys, query_dim_stride)
        key_rows = rows_of(key_pointer, first, places, key_time_stride, keys, key_dim_stride)
        query = tl.load(query_rows, mask=there, other=0.0)
        key = tl.load(key_rows, mask=there, other=0.0)
        number = tl.cast(row, tl.int64) * chunks + chunk
        grad_state = tl.load(
            tile_of(grad_states_pointer, number, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE)
        )
        across = tl.dot(key, grad_state.to(key.dtype), across, input_precision=PRECISION)
        turned = tl.dot(key, tl.trans(query), turned, input_precision=PRECISION)
    grad_rows = rows_of(grad_output_pointer, first, places, grad_time_stride, values, grad_dim_stride)
    grad_output = tl.load(grad_rows, mask=there, other=0.0)
    leaving = tl.exp2(log2_decay * tl.maximum(length - 1 - places, 0))
    fade = tl.trans(fading(log2_decay, length, CHUNK))
    weight = tl.where(fade > 0, turned * scale * fade, 0.0)
    grad_value = tl.dot(weight.to(grad_output.dtype), grad_output, across * leaving[:, None], input_precision=PRECISION)
    grad_value_pointer += tl.cast(row, tl.int64) * time * VALUE_DIM
    grad_value_rows = rows_of(grad_value_pointer, first, places, VALUE_DIM, values, 1)
    tl.store(grad_value_rows, grad_value.to(grad_value_pointer.dtype.element_ty), mask=there)


@triton.jit
def retention_grad_query_key_kernel(
    query_pointer, key_pointer, value_pointer, grad_output_pointer, log2_decay_pointer,
    states_pointer, grad_states_pointer, grad_query_pointer, grad_key_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_query = dA key + scale · decay^(i+1) · grad_output Sᵀ;  grad_key = dAᵀ query + decay^(C-1-j) · value dSᵀ

    Both [batch, heads, time, KEY_DIM], contiguous, written in full. One program owns BLOCK_KEY columns of one chunk of
    one head, and walks the columns of the value.
    """
    key_tiles: tl.constexpr = KEY_DIM // BLOCK_KEY
    tile, row = program_of(chunks * key_tiles)
    chunk, first_key = tile // key_tiles, tile % key_tiles * BLOCK_KEY
    first = chunk * CHUNK
    places, keys = tl.arange(0, CHUNK), first_key + tl.arange(0, BLOCK_KEY)
    length = tl.minimum(CHUNK, time - first)
    there = (places < length)[:, None]
    log2_decay = tl.load(log2_decay_pointer + row % heads)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    grad_query = tl.zeros([CHUNK, BLOCK_KEY], tl.float32)
    grad_key = tl.zeros([CHUNK, BLOCK_KEY], tl.float32)
    grad_weight = tl.zeros([CHUNK, CHUNK], tl.float32)
    for first_value in range(0, VALUE_DIM, BLOCK_VALUE):
        values = first_value + tl.arange(0, BLOCK_VALUE)
        value_rows = rows_of(value_pointer, first, places, value_time_stride, values, value_dim_stride)
        grad_rows = rows_of(grad_output_pointer, first, places, grad_time_stride, values, grad_dim_stride)
        value = tl.load(value_rows, mask=there, other=0.0)
        grad_output = tl.load(grad_rows, mask=there, other=0.0)
        number = tl.cast(row, tl.int64) * chunks + chunk
        state = tl.load(
            tile_of(states_pointer, number, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE)
        ).to(value.dtype)
        grad_state = tl.load(
            tile_of(grad_states_pointer, number, first_key, first_value, KEY_DIM, VALUE_DIM, BLOCK_KEY, BLOCK_VALUE)
        ).to(value.dtype)
        grad_weight = tl.dot(grad_output, tl.trans(value), grad_weight, input_precision=PRECISION)
        grad_query = tl.dot(grad_output, tl.trans(state), grad_query, input_precision=PRECISION)
        grad_key = tl.dot(value, tl.trans(grad_state), grad_key, input_precision=PRECISION)
    entering = tl.exp2(log2_decay * (places + 1)) * scale
    leaving = tl.exp2(log2_decay * tl.maximum(length - 1 - places, 0))
    query_rows = rows_of(query_pointer, first, places, query_time_stride, keys, query_dim_stride)
    key_rows = rows_of(key_pointer, first, places, key_time_stride, keys, key_dim_stride)
    query = tl.load(query_rows, mask=there, other=0.0)
    key = tl.load(key_rows, mask=there, other=0.0)
    fade = fading(log2_decay, length, CHUNK)
    weight = tl.where(fade > 0, grad_weight * fade * scale, 0.0).to(query.dtype)
    grad_query = tl.dot(weight, key, grad_query * entering[:, None], input_precision=PRECISION)
    grad_key = tl.dot(tl.trans(weight), query, grad_key * leaving[:, None], input_precision=PRECISION)
    line = tl.cast(row, tl.int64) * time * KEY_DIM
    grad_query_rows = rows_of(grad_query_pointer + line, first, places, KEY_DIM, keys, 1)
    grad_key_rows = rows_of(grad_key_pointer + line, first, places, KEY_DIM, keys, 1)
    tl.store(grad_query_rows, grad_query.to(grad_query_pointer.dtype.element_ty), mask=there)
    tl.store(grad_key_rows, grad_key.to(grad_key_pointer.dtype.element_ty), mask=there)


def launch_gradients(grad_output, query, key, value, log2_decay, states, grad_states, scale, chunk):
    """Launch both kernels over batch · heads · chunks · tiles. Returns (grad_query, grad_key, grad_value)."""
    batch, heads, time, key_dim = query.shape
    value_dim, chunks = value.shape[3], states.shape[2]
    grad_query, grad_key, grad_value = (
        torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, value)
    )
    sizes = dict(KEY_DIM=key_dim, VALUE_DIM=value_dim, CHUNK=chunk)
    constants = choose("grad_value", query.dtype, key_dim, value_dim)
    retention_grad_value_kernel[(batch * heads * chunks * (value_dim // constants["BLOCK_VALUE"]),)](
        query, key, grad_output, log2_decay, grad_states, grad_value,
        heads, time, chunks,
        *query.stride(), *key.stride(), *grad_output.stride(),
        scale,
        **sizes,
        **constants,
    )  # fmt: skip
    constants = choose("grad_query_key", query.dtype, key_dim, value_dim)
    retention_grad_query_key_kernel[(batch * heads * chunks * (key_dim // constants["BLOCK_KEY"]),)](
        query, key, value, grad_output, log2_decay, states, grad_states, grad_query, grad_key,
        heads, time, chunks,
        *query.stride(), *key.stride(), *value.stride(), *grad_output.stride(),
        scale,
        **sizes,
        **constants,
    )  # fmt: skip
    return grad_query, grad_key, grad_value
