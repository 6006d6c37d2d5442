"""Stage one: the state before every chunk, or, walked backwards, the gradient of the state after every chunk."""

import torch
import triton
import triton.language as tl

from kernels.recurrences.configurations import choose
from kernels.recurrences.fading import fading
from kernels.tiles import head_of, program_of, rows_of


@triton.jit
def gated_states_kernel(
    key_pointer, value_pointer, gate_pointer, initial_pointer, states_pointer, final_pointer,
    heads, time, chunks,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    gate_batch_stride, gate_head_stride, gate_time_stride, gate_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr,
    VECTOR: tl.constexpr, REVERSE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """S[n+1] = kept · S[n] + (key · leaving)ᵀ value     (eq. gated-chunk)

    REVERSE walks from the last chunk to the first with queries and output gradients for keys and values:
    dS[n] = kept · dS[n+1] + (scale · query · entering)ᵀ grad_output     (eq. gated-backward)

    states: [batch, heads, chunks, KEY_DIM, VALUE_DIM], what comes before a chunk is walked; initial, final: [batch,
    heads, KEY_DIM, VALUE_DIM]; all float32, contiguous, written in full. One program owns a tile of key and value
    dimensions of one head and walks all its chunks: no two programs share a sum.
    """
    value_tiles: tl.constexpr = VALUE_DIM // BLOCK_VALUE
    tile, row = program_of(KEY_DIM // BLOCK_KEY * value_tiles)
    rows = tl.arange(0, CHUNK)
    dims = tile // value_tiles * BLOCK_KEY + tl.arange(0, BLOCK_KEY)
    value_dims = tile % value_tiles * BLOCK_VALUE + tl.arange(0, BLOCK_VALUE)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    gate_pointer = head_of(gate_pointer, row, heads, gate_batch_stride, gate_head_stride)

    line = tl.cast(row, tl.int64) * KEY_DIM * VALUE_DIM
    places = dims[:, None] * VALUE_DIM + value_dims[None, :]
    state = tl.load(initial_pointer + line + places)
    for step in range(0, chunks):
        chunk = chunks - 1 - step if REVERSE else step
        first = chunk * CHUNK
        there = first + rows < time
        tl.store(states_pointer + line * chunks + tl.cast(chunk, tl.int64) * KEY_DIM * VALUE_DIM + places, state)
        _, entering, leaving, kept = fading(
            gate_pointer, first, there, gate_time_stride, gate_dim_stride, dims, CHUNK, VECTOR
        )
        key_rows = rows_of(key_pointer, first, rows, key_time_stride, dims, key_dim_stride)
        value_rows = rows_of(value_pointer, first, rows, value_time_stride, value_dims, value_dim_stride)
        key = tl.load(key_rows, mask=there[:, None], other=0.0)
        value = tl.load(value_rows, mask=there[:, None], other=0.0)
        faded = (key * ((entering if REVERSE else leaving) * scale)).to(value.dtype)
        state = tl.dot(tl.trans(faded), value, state * kept, input_precision=PRECISION)
    tl.store(final_pointer + line + places, state)


def launch_states(key, value, log_gate, initial, *, scale=1.0, reverse=False):
    """(state before each chunk, state after the last); reverse: (gradient after each chunk, before the first).

    key: [batch, heads, time, key_dim]; value: [batch, heads, time, value_dim]; log_gate: [batch, heads, time] or, with
    a key_dim at its end, a gate for each; initial: [batch, heads, key_dim, value_dim] float32, contiguous.
    """
    batch, heads, time, key_dim = key.shape
    value_dim, vector = value.shape[3], log_gate.ndim == 4
    chunk, configuration = choose("states", key.dtype, key_dim, value_dim, vector)
    chunks = triton.cdiv(time, chunk)
    states = torch.empty(batch, heads, chunks, key_dim, value_dim, dtype=torch.float32, device=key.device)
    final = torch.empty_like(initial)
    tiles = key_dim // configuration.block_key * (value_dim // configuration.block_value)
    if batch * heads:
        gated_states_kernel[(batch * heads * tiles,)](
            key, value, log_gate, initial, states, final,
            heads, time, chunks,
            *key.stride(), *value.stride(), *log_gate.stride(), *(() if vector else (0,)),
            scale,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            CHUNK=chunk,
            BLOCK_KEY=configuration.block_key,
            BLOCK_VALUE=configuration.block_value,
            VECTOR=vector,
            REVERSE=reverse,
            PRECISION=configuration.precision,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return states, final
