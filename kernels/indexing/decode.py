"""Reading the chosen rows: copied together once for all layers, and attention over them.

A chosen row is a block of one token: attention is the decoding over a list of blocks of `kernels.rectified`.
"""

import torch
import triton
import triton.language as tl

from kernels.indexing.configurations import choose
from kernels.rectified import launch_decode
from kernels.tiles import program_of, rows_of


@triton.jit
def indexing_gather_kernel(
    key_pointer, value_pointer, row_pointer, near_key_pointer, near_value_pointer,
    key_heads, count,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """near[i] = cache[rows[i]], zeros for a row of -1.

    near_key: [batch, key_heads, count, HEAD_DIM] and near_value, contiguous, written in full. One program owns BLOCK
    entries of the list for one key head.
    """
    tile, row = program_of(tl.cdiv(count, BLOCK))
    batch, key_head = tl.cast(row // key_heads, tl.int64), tl.cast(row % key_heads, tl.int64)
    entries, dims, value_dims = tile * BLOCK + tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    listed = entries < count
    token = tl.load(row_pointer + batch * count + entries, mask=listed, other=-1)
    there = (token >= 0)[:, None]
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride
    key_rows = rows_of(key_pointer, 0, token, key_time_stride, dims, key_dim_stride)
    value_rows = rows_of(value_pointer, 0, token, value_time_stride, value_dims, value_dim_stride)
    key = tl.load(key_rows, mask=there, other=0.0)
    value = tl.load(value_rows, mask=there, other=0.0)
    near = tl.cast(row, tl.int64) * count
    tl.store(rows_of(near_key_pointer, near, entries, HEAD_DIM, dims, 1), key, mask=listed[:, None])
    tl.store(rows_of(near_value_pointer, near, entries, VALUE_DIM, value_dims, 1), value, mask=listed[:, None])


def launch_gather(key, value, rows):
    """Launch over batch · key_heads · tiles of the list. Returns (near_key, near_value), as `gather_rows`."""
    batch, key_heads, _, head_dim = key.shape
    count, value_dim = rows.shape[1], value.shape[3]
    configuration, _ = choose("gather", key.dtype, head_dim, value_dim)
    near_key = torch.empty(batch, key_heads, count, head_dim, dtype=key.dtype, device=key.device)
    near_value = torch.empty(batch, key_heads, count, value_dim, dtype=key.dtype, device=key.device)
    programs = batch * key_heads * triton.cdiv(count, configuration.keys)
    if programs:
        indexing_gather_kernel[(programs,)](
            key, value, rows.to(torch.int32).contiguous(), near_key, near_value,
            key_heads, count,
            *key.stride(), *value.stride(),
            HEAD_DIM=head_dim,
            VALUE_DIM=value_dim,
            BLOCK=configuration.keys,
            num_warps=configuration.warps,
            num_stages=configuration.stages,
        )  # fmt: skip
    return near_key, near_value


def launch_attention(query, key, value, rows, gathered_already, scale, splits=None):
    """Decode over blocks of one row, one list for all key heads. Shapes as in `effattn_core.indexing.row_attention`.

    Returns (output in the query's dtype, log_sum_exp float32). splits: programs a key head, chosen if None.
    """
    entries = rows
    if gathered_already:
        entries = torch.where(rows < 0, -1, torch.arange(rows.shape[1], dtype=rows.dtype, device=rows.device))
    lists = entries[:, None].expand(-1, key.shape[1], -1)
    return launch_decode(query, key, value, lists, 1, scale, splits)
