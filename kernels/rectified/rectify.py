"""Rectification: the newest tokens attend causally to the whole cache, all rows of a key head in one tile.

`kernels.attention.forward` computes the same, but gives each query head a program of its own, which reads the cache
once per head, and never splits it. Here tokens and heads that share a key head are the rows of one tile: a row of the
cache is read once for them, and the cache is split between programs as in decoding. The step is attention's `absorb`.
"""

import torch
import triton
import triton.language as tl

from kernels.attention import absorb
from kernels.merge import launch_merge, splits_for
from kernels.rectified.configurations import choose
from kernels.runtime import multiprocessors
from kernels.tiles import LOG2_E, program_of


@triton.jit
def rectified_pass_kernel(
    query_pointer, key_pointer, value_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, rows, key_time, splits, span,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    scale,
    GROUP: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of keys split · span … (split + 1) · span for ROWS of the rows (token, head of the group) of a key head.

    query: [batch, heads, tokens, HEAD_DIM], its tokens the last of key_time; rows = tokens · GROUP. output: [batch,
    heads, tokens, splits, VALUE_DIM] and log_sum_exp: [batch, heads, tokens, splits], float32, contiguous.
    """
    tile, pair = program_of(tl.cdiv(rows, ROWS))
    split, row = pair % splits, pair // splits
    batch, key_head = tl.cast(row // key_heads, tl.int64), tl.cast(row % key_heads, tl.int64)
    place, dims, value_dims = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there, token, member = place < rows, place // GROUP, place % GROUP
    query_pointer += batch * query_batch_stride + key_head * GROUP * query_head_stride
    places = tl.cast(member, tl.int64) * query_head_stride + tl.cast(token, tl.int64) * query_time_stride
    query_rows = query_pointer + places[:, None] + tl.cast(dims, tl.int64)[None, :] * query_dim_stride
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride

    tokens = rows // GROUP
    position = key_time - tokens + token
    begin = tl.minimum(split * span, key_time)
    end = tl.minimum(begin + span, key_time)
    # Every row sees the keys before the newest tokens: whole blocks of those need no mask.
    open_end = tl.minimum(end, key_time - tokens)
    full = begin + tl.maximum(0, open_end - begin) // BLOCK_KEY * BLOCK_KEY
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, begin, full,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        position, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, False, False, False, PRECISION,
    )  # fmt: skip
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, full, end,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        position, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, True, False, True, PRECISION,
    )  # fmt: skip

    safe = tl.where(total == 0.0, 1.0, total)
    head = row * GROUP + member  # counted over the batch
    part = (tl.cast(head, tl.int64) * tokens + token) * splits + split
    output_rows = output_pointer + (part * VALUE_DIM)[:, None] + value_dims[None, :]
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    tl.store(log_sum_exp_pointer + part, (maximum + tl.log2(safe)) / LOG2_E, mask=there)


def launch_rectify(query, key, value, scale, splits=None):
    """Launch over batch · key_heads · splits · tiles of rows, then merge. Causal; queries are the newest tokens.

    query: [batch, heads, tokens, head_dim]. Returns (output: [batch, heads, tokens, value_dim] in the query's dtype,
    log_sum_exp: [batch, heads, tokens] float32). splits: programs a key head, chosen if None.
    """
    batch, heads, tokens, head_dim = query.shape
    key_heads, key_time, value_dim = key.shape[1], key.shape[2], value.shape[3]
    configuration, precision = choose("rectify", query.dtype, head_dim, value_dim)
    output = torch.empty(batch, heads, tokens, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    if output.numel() == 0:
        return output, log_sum_exp
    group, block_key = heads // key_heads, configuration.keys
    rows = tokens * group
    tile = max(16, min(configuration.rows, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(rows, tile)
    if splits is None:
        splits = splits_for(key_time, batch * key_heads * tiles, block_key, multiprocessors(query.device))
    span = triton.cdiv(triton.cdiv(key_time, splits), block_key) * block_key
    part_output = torch.empty(batch, heads, tokens, splits, value_dim, dtype=torch.float32, device=query.device)
    part_sum = torch.empty(batch, heads, tokens, splits, dtype=torch.float32, device=query.device)
    rectified_pass_kernel[(batch * key_heads * splits * tiles,)](
        query, key, value, part_output, part_sum,
        key_heads, rows, key_time, splits, span,
        *query.stride(), *key.stride(), *value.stride(),
        scale,
        GROUP=group,
        ROWS=tile,
        HEAD_DIM=head_dim,
        VALUE_DIM=value_dim,
        BLOCK_KEY=block_key,
        PRECISION=precision,
        num_warps=configuration.warps,
        num_stages=configuration.stages,
    )  # fmt: skip
    launch_merge(part_output, part_sum, output, log_sum_exp)
    return output, log_sum_exp
