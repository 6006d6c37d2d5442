"""Retention, one token: the state fades, takes the token in, and is read, in a single pass over it."""

import torch
import triton
import triton.language as tl

from kernels.retention.configurations import choose
from kernels.tiles import head_of, program_of, tile_of


@triton.jit
def retention_step_kernel(
    query_pointer, key_pointer, value_pointer, decay_pointer, state_pointer, output_pointer, after_pointer,
    heads, decays,
    query_batch_stride, query_head_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """after = decay · state + keyᵀ value;  output = scale · query after     (eq. retention-recurrent)

    state, after: [batch, heads, KEY_DIM, VALUE_DIM] float32, contiguous. One program owns BLOCK_VALUE columns of the
    state of one head: each is read once and written once. decay: [decays] float32, one for each head, or for each
    batch and head where a gate sets it. Nothing is a matrix product, so PRECISION plays no part.
    """
    tile, row = program_of(VALUE_DIM // BLOCK_VALUE)
    first_value = tile * BLOCK_VALUE
    keys, values = tl.cast(tl.arange(0, KEY_DIM), tl.int64), tl.cast(first_value + tl.arange(0, BLOCK_VALUE), tl.int64)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    query = tl.load(query_pointer + keys * query_dim_stride)
    key = tl.load(key_pointer + keys * key_dim_stride)
    value = tl.load(value_pointer + values * value_dim_stride)
    decay = tl.load(decay_pointer + row % decays)
    state = tl.load(tile_of(state_pointer, row, 0, first_value, KEY_DIM, VALUE_DIM, KEY_DIM, BLOCK_VALUE))
    after = decay * state + key.to(tl.float32)[:, None] * value.to(tl.float32)[None, :]
    output = tl.sum(query.to(tl.float32)[:, None] * after, 0) * scale
    tl.store(tile_of(after_pointer, row, 0, first_value, KEY_DIM, VALUE_DIM, KEY_DIM, BLOCK_VALUE), after)
    line = tl.cast(row, tl.int64) * VALUE_DIM
    tl.store(output_pointer + line + values, output.to(output_pointer.dtype.element_ty))


def launch_step(query, key, value, decay, state, scale):
    """Launch over batch · heads · tiles of the value. query: [batch, heads, 1, key_dim]; returns (output, state).

    decay: [heads], or [batch, heads] where each sequence has its own.
    """
    batch, heads, _, key_dim = query.shape
    value_dim = value.shape[3]
    output = torch.empty(batch, heads, 1, value_dim, dtype=query.dtype, device=query.device)
    after = torch.empty(state.shape, dtype=torch.float32, device=query.device)
    constants = choose("step", query.dtype, key_dim, value_dim)
    strides = [each.stride(axis) for each in (query, key, value) for axis in (0, 1, 3)]
    retention_step_kernel[(batch * heads * (value_dim // constants["BLOCK_VALUE"]),)](
        query, key, value, decay.contiguous(), state, output, after,
        heads, decay.numel(),
        *strides,
        scale,
        KEY_DIM=key_dim,
        VALUE_DIM=value_dim,
        **constants,
    )  # fmt: skip
    return output, after
