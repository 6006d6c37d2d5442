"""The delta rules, token by token: the state fades, gives up what the key reads, takes the value in, and is read."""

import torch
import triton
import triton.language as tl

from kernels.recurrences.configurations import choose
from kernels.tiles import LOG2_E, head_of, program_of, tile_of


@triton.jit
def delta_step_kernel(
    query_pointer, key_pointer, value_pointer, gate_pointer, beta_pointer, state_pointer, output_pointer, after_pointer,
    heads, time,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    gate_batch_stride, gate_head_stride, gate_time_stride,
    beta_batch_stride, beta_head_stride, beta_time_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE: tl.constexpr,
):  # fmt: skip
    """S = γ S;  S = S + keyᵀ β (value - key S);  output = scale · query S     (eq. delta-rule), for each token in turn

    state, after: [batch, heads, KEY_DIM, VALUE_DIM] float32; output: [batch, heads, time, VALUE_DIM]; contiguous,
    written in full. One program owns BLOCK_VALUE columns of the state of one head: no column reads another, so each is
    read from memory once, walks all tokens on the chip, and is written once.
    """
    tile, row = program_of(VALUE_DIM // BLOCK_VALUE)
    first_value = tile * BLOCK_VALUE
    keys, values = tl.cast(tl.arange(0, KEY_DIM), tl.int64), tl.cast(first_value + tl.arange(0, BLOCK_VALUE), tl.int64)
    query_place = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride) + keys * query_dim_stride
    key_place = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride) + keys * key_dim_stride
    value_place = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride) + values * value_dim_stride
    gate_place = head_of(gate_pointer, row, heads, gate_batch_stride, gate_head_stride)
    beta_place = head_of(beta_pointer, row, heads, beta_batch_stride, beta_head_stride)
    output_place = output_pointer + tl.cast(row, tl.int64) * time * VALUE_DIM + values

    state = tl.load(tile_of(state_pointer, row, 0, first_value, KEY_DIM, VALUE_DIM, KEY_DIM, BLOCK_VALUE))
    for token in range(0, time):
        at = tl.cast(token, tl.int64)
        key = tl.load(key_place + at * key_time_stride).to(tl.float32)
        value = tl.load(value_place + at * value_time_stride).to(tl.float32)
        beta = tl.load(beta_place + at * beta_time_stride).to(tl.float32)
        state *= tl.exp2(tl.load(gate_place + at * gate_time_stride).to(tl.float32) * LOG2_E)
        write = beta * (value - tl.sum(key[:, None] * state, 0))
        state += key[:, None] * write[None, :]
        query = tl.load(query_place + at * query_time_stride).to(tl.float32)
        output = tl.sum(query[:, None] * state, 0) * scale
        tl.store(output_place + at * VALUE_DIM, output.to(output_pointer.dtype.element_ty))
    tl.store(tile_of(after_pointer, row, 0, first_value, KEY_DIM, VALUE_DIM, KEY_DIM, BLOCK_VALUE), state)


def launch_delta(query, key, value, log_gate, beta, state, scale):
    """Launch over batch · heads · tiles of the value; returns (output, state).

    query, key: [batch, heads, time, key_dim]; value: [batch, heads, time, value_dim]; log_gate, beta: [batch, heads,
    time]; state: [batch, heads, key_dim, value_dim] float32, contiguous.
    """
    batch, heads, time, key_dim = query.shape
    value_dim = value.shape[3]
    _, configuration = choose("delta", query.dtype, key_dim, value_dim, vector=False)
    output = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    after = torch.empty_like(state)
    programs = batch * heads * (value_dim // configuration.block_value)
    if programs:
        delta_step_kernel[(programs,)](
            query, key, value, log_gate, beta, state, output, after,
            heads, time,
            *query.stride(), *key.stride(), *value.stride(), *log_gate.stride(), *beta.stride(),
            scale,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            BLOCK_VALUE=configuration.block_value,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return output, after
