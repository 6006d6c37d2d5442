"""The last stage of the backward pass: the gradients of queries, keys and log gates, chunk by chunk.

With S the state before a chunk and dS the gradient of the state after it (eq. gated-backward)

- grad_query_n = scale · (Σ over m ≤ n of (grad_output_n · value_m) · fading · key_m + entering · S grad_output_n),
- grad_key_m = scale · Σ over n ≥ m of (grad_output_n · value_m) · fading · query_n + leaving · dS value_m,
- dG = query · grad_query - key · grad_key, and a gate gathers the dG of its token and of all later ones.

The last is never summed over the whole sequence, where large terms would cancel: see `gate_gradient`.
"""

import torch
import triton
import triton.language as tl

from kernels.recurrences.configurations import choose
from kernels.recurrences.fading import between, fading, halves
from kernels.tiles import head_of, program_of, rows_of


@triton.jit
def gate_gradient(read, stored, passing):
    """The gradient of a chunk's log gates: [CHUNK] or [CHUNK, dims], natural as the gates are.

    A gate fades what tokens from its own on read of tokens and of a state before it (read), what tokens before it leave
    in the state after the chunk (stored), and what passes from the state before to the state after (passing).
    """
    return tl.cumsum(read, 0, reverse=True) + tl.cumsum(stored, 0) - stored + passing


@triton.jit
def value_products(
    value_pointer, grad_output_pointer,
    first, there,
    value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride,
    VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """grad_output valueᵀ, [CHUNK, CHUNK], by tiles of value dimensions."""
    rows = tl.arange(0, CHUNK)
    products = tl.zeros([CHUNK, CHUNK], tl.float32)
    for start in range(0, VALUE_DIM, BLOCK_VALUE):
        dims = start + tl.arange(0, BLOCK_VALUE)
        value_rows = rows_of(value_pointer, first, rows, value_time_stride, dims, value_dim_stride)
        grad_rows = rows_of(grad_output_pointer, first, rows, grad_time_stride, dims, grad_dim_stride)
        value = tl.load(value_rows, mask=there[:, None], other=0.0)
        grad_output = tl.load(grad_rows, mask=there[:, None], other=0.0)
        products = tl.dot(grad_output, tl.trans(value), products, input_precision=PRECISION)
    return products


@triton.jit
def through_states(
    value_pointer, grad_output_pointer, before_pointer, after_pointer,
    first, there,
    value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride,
    dims,
    VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr, BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """(grad_output Sᵀ, value dSᵀ, Σ S · dS) for a tile of key dimensions: [CHUNK, dims] twice, and [dims]."""
    rows = tl.arange(0, CHUNK)
    read = tl.zeros([CHUNK, BLOCK_KEY], tl.float32)
    written = tl.zeros([CHUNK, BLOCK_KEY], tl.float32)
    passed = tl.zeros([BLOCK_KEY], tl.float32)
    for start in range(0, VALUE_DIM, BLOCK_VALUE):
        value_dims = start + tl.arange(0, BLOCK_VALUE)
        value_rows = rows_of(value_pointer, first, rows, value_time_stride, value_dims, value_dim_stride)
        grad_rows = rows_of(grad_output_pointer, first, rows, grad_time_stride, value_dims, grad_dim_stride)
        value = tl.load(value_rows, mask=there[:, None], other=0.0)
        grad_output = tl.load(grad_rows, mask=there[:, None], other=0.0)
        before = tl.load(before_pointer + dims[:, None] * VALUE_DIM + value_dims[None, :])
        after = tl.load(after_pointer + dims[:, None] * VALUE_DIM + value_dims[None, :])
        read = tl.dot(grad_output, tl.trans(before.to(value.dtype)), read, input_precision=PRECISION)
        written = tl.dot(value, tl.trans(after.to(value.dtype)), written, input_precision=PRECISION)
        passed += tl.sum(before * after, 1)
    return read, written, passed


@triton.jit
def gated_gradients_kernel(
    query_pointer, key_pointer, value_pointer, gate_pointer, grad_output_pointer, before_pointer, after_pointer,
    grad_query_pointer, grad_key_pointer, grad_gate_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    gate_batch_stride, gate_head_stride, gate_time_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One gate per head. Gradients of one chunk's queries, keys and log gates, from S before it and dS after it.

    grad_query, grad_key: [batch, heads, time, KEY_DIM]; grad_gate: [batch, heads, time]; contiguous, written in full.
    One program owns one chunk of one head, since a gate sums over all key dimensions.
    """
    chunk, row = program_of(chunks)
    first, rows = chunk * CHUNK, tl.arange(0, CHUNK)
    there = first + rows < time
    line = tl.cast(row, tl.int64)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    gate_pointer = head_of(gate_pointer, row, heads, gate_batch_stride, gate_head_stride)
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    before_pointer += (line * chunks + chunk) * KEY_DIM * VALUE_DIM
    after_pointer += (line * chunks + chunk) * KEY_DIM * VALUE_DIM

    total, entering, leaving, kept = fading(gate_pointer, first, there, gate_time_stride, 0, rows, CHUNK, False)
    weight = value_products(
        value_pointer, grad_output_pointer, first, there,
        value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride,
        VALUE_DIM, CHUNK, BLOCK_VALUE, PRECISION,
    )  # fmt: skip
    # Rounded once, for both products below: then a pair on one side of a gate cancels in query · dq - key · dk.
    weight = (weight * between(total, CHUNK, False) * scale).to(query_pointer.dtype.element_ty)
    gathered = tl.zeros([CHUNK], tl.float32)
    stored = tl.zeros([CHUNK], tl.float32)
    passing = 0.0
    for start in range(0, KEY_DIM, BLOCK_KEY):
        dims = start + tl.arange(0, BLOCK_KEY)
        read, written, passed = through_states(
            value_pointer, grad_output_pointer, before_pointer, after_pointer, first, there,
            value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride, dims,
            VALUE_DIM, CHUNK, BLOCK_KEY, BLOCK_VALUE, PRECISION,
        )  # fmt: skip
        read *= entering * scale
        written *= leaving
        query_rows = rows_of(query_pointer, first, rows, query_time_stride, dims, query_dim_stride)
        key_rows = rows_of(key_pointer, first, rows, key_time_stride, dims, key_dim_stride)
        query = tl.load(query_rows, mask=there[:, None], other=0.0)
        key = tl.load(key_rows, mask=there[:, None], other=0.0)
        gathered += tl.sum(query * read, 1)
        stored += tl.sum(key * written, 1)
        passing += tl.sum(passed, 0)
        grad_query = tl.dot(weight, key, input_precision=PRECISION)
        grad_key = tl.dot(tl.trans(weight), query, input_precision=PRECISION)
        gathered += tl.sum(query * grad_query - key * grad_key, 1)
        grad_query_rows = rows_of(grad_query_pointer + line * time * KEY_DIM, first, rows, KEY_DIM, dims, 1)
        grad_key_rows = rows_of(grad_key_pointer + line * time * KEY_DIM, first, rows, KEY_DIM, dims, 1)
        tl.store(grad_query_rows, (grad_query + read).to(query.dtype), mask=there[:, None])
        tl.store(grad_key_rows, (grad_key + written).to(query.dtype), mask=there[:, None])
    grad_gate = gate_gradient(gathered, stored, passing * kept)
    places = grad_gate_pointer + line * time + first + rows
    tl.store(places, grad_gate.to(grad_gate_pointer.dtype.element_ty), mask=there)


@triton.jit
def gated_gradients_vector_kernel(
    query_pointer, key_pointer, value_pointer, gate_pointer, grad_output_pointer, before_pointer, after_pointer,
    grad_query_pointer, grad_key_pointer, grad_gate_pointer,
    heads, time, chunks,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    gate_batch_stride, gate_head_stride, gate_time_stride, gate_dim_stride,
    grad_batch_stride, grad_head_stride, grad_time_stride, grad_dim_stride,
    scale,
    KEY_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, CHUNK: tl.constexpr, LEVELS: tl.constexpr,
    BLOCK_KEY: tl.constexpr, BLOCK_VALUE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One gate per key dimension. Gradients of one chunk's queries, keys, log gates, from S before it and dS after it.

    grad_query, grad_key, grad_gate: [batch, heads, time, KEY_DIM], contiguous, written in full. One program owns one
    chunk and a tile of key dimensions of one head.
    """
    key_tiles: tl.constexpr = KEY_DIM // BLOCK_KEY
    tile, row = program_of(chunks * key_tiles)
    chunk = tile // key_tiles
    first, rows = chunk * CHUNK, tl.arange(0, CHUNK)
    there = first + rows < time
    line = tl.cast(row, tl.int64)
    dims = tile % key_tiles * BLOCK_KEY + tl.arange(0, BLOCK_KEY)
    query_pointer = head_of(query_pointer, row, heads, query_batch_stride, query_head_stride)
    key_pointer = head_of(key_pointer, row, heads, key_batch_stride, key_head_stride)
    value_pointer = head_of(value_pointer, row, heads, value_batch_stride, value_head_stride)
    gate_pointer = head_of(gate_pointer, row, heads, gate_batch_stride, gate_head_stride)
    grad_output_pointer = head_of(grad_output_pointer, row, heads, grad_batch_stride, grad_head_stride)
    before_pointer += (line * chunks + chunk) * KEY_DIM * VALUE_DIM
    after_pointer += (line * chunks + chunk) * KEY_DIM * VALUE_DIM

    weight = scale * value_products(
        value_pointer, grad_output_pointer, first, there,
        value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride,
        VALUE_DIM, CHUNK, BLOCK_VALUE, PRECISION,
    )  # fmt: skip
    total, entering, leaving, kept = fading(
        gate_pointer, first, there, gate_time_stride, gate_dim_stride, dims, CHUNK, True
    )
    grad_query, grad_key, passed = through_states(
        value_pointer, grad_output_pointer, before_pointer, after_pointer, first, there,
        value_time_stride, value_dim_stride, grad_time_stride, grad_dim_stride, dims,
        VALUE_DIM, CHUNK, BLOCK_KEY, BLOCK_VALUE, PRECISION,
    )  # fmt: skip
    grad_query *= entering * scale
    grad_key *= leaving
    query_rows = rows_of(query_pointer, first, rows, query_time_stride, dims, query_dim_stride)
    key_rows = rows_of(key_pointer, first, rows, key_time_stride, dims, key_dim_stride)
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key = tl.load(key_rows, mask=there[:, None], other=0.0)
    gathered, stored = query * grad_query, key * grad_key
    own = tl.sum(tl.where(rows[:, None] == rows[None, :], weight, 0.0), 1)[:, None]
    grad_query += own * key  # no gate lies between a token and itself
    grad_key += own * query
    for level in range(LEVELS):
        late, early, together = halves(total, level, CHUNK)
        late_query, early_key = (query * late).to(query.dtype), (key * early).to(query.dtype)
        met = tl.where(together, weight, 0.0).to(query.dtype)
        to_late = tl.dot(met, early_key, input_precision=PRECISION)
        to_early = tl.dot(tl.trans(met), late_query, input_precision=PRECISION)
        grad_query += to_late * late
        grad_key += to_early * early
        # From the rounded operands of the products: then a pair on one side of a gate cancels.
        gathered += late_query * to_late - early_key * to_early
    through = passed[None, :] * tl.trans(kept)
    grad_gate = gate_gradient(gathered, stored, through)
    line *= time * KEY_DIM
    grad_query_rows = rows_of(grad_query_pointer + line, first, rows, KEY_DIM, dims, 1)
    grad_key_rows = rows_of(grad_key_pointer + line, first, rows, KEY_DIM, dims, 1)
    grad_gate_rows = rows_of(grad_gate_pointer + line, first, rows, KEY_DIM, dims, 1)
    tl.store(grad_query_rows, grad_query.to(query.dtype), mask=there[:, None])
    tl.store(grad_key_rows, grad_key.to(query.dtype), mask=there[:, None])
    tl.store(grad_gate_rows, grad_gate.to(grad_gate_pointer.dtype.element_ty), mask=there[:, None])


def launch_gradients(query, key, value, log_gate, grad_output, before, after, *, scale):
    """(grad_query, grad_key, grad_log_gate), each in its input's dtype, from S before and dS after each chunk.

    Shapes as in `launch_states`, which gives before and, reversed, after.
    """
    batch, heads, time, key_dim = query.shape
    value_dim, vector = value.shape[3], log_gate.ndim == 4
    chunk, configuration = choose("gradients", query.dtype, key_dim, value_dim, vector)
    chunks = triton.cdiv(time, chunk)
    grad_query, grad_key, grad_gate = (
        torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in (query, key, log_gate)
    )
    kernel = gated_gradients_vector_kernel if vector else gated_gradients_kernel
    programs = batch * heads * chunks * (key_dim // configuration.block_key if vector else 1)
    if programs:
        kernel[(programs,)](
            query, key, value, log_gate, grad_output, before, after, grad_query, grad_key, grad_gate,
            heads, time, chunks,
            *query.stride(), *key.stride(), *value.stride(), *log_gate.stride(), *grad_output.stride(),
            scale,
            KEY_DIM=key_dim,
            VALUE_DIM=value_dim,
            CHUNK=chunk,
            **({"LEVELS": chunk.bit_length() - 1} if vector else {}),
            BLOCK_KEY=configuration.block_key,
            BLOCK_VALUE=configuration.block_value,
            PRECISION=configuration.precision,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return grad_query, grad_key, grad_gate
