"""Verification: all nodes of a draft tree attend in one pass, each to the whole text and to its ancestors.

As in rectification, nodes and heads that share a key head are the rows of one tile, and the cache is split between
programs: a row of the cache is read once per tile. Over the text there is nothing to mask but the ragged end. Over the
tree, whose nodes are the newest rows of the cache, bit j of a node's mask says whether it sees node j.
"""

import torch
import triton
import triton.language as tl

from kernels.attention import absorb
from kernels.merge import launch_merge, splits_for
from kernels.runtime import multiprocessors
from kernels.speculation.configurations import choose
from kernels.table import MOST
from kernels.tiles import LOG2_E, program_of, rows_of


@triton.jit
def absorb_tree(
    maximum, total, accumulator, query, seen_bits,
    key_pointer, value_pointer,
    nodes,
    key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
    score_scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_KEY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The tree's keys 0..nodes join the running triple of the online softmax, each for the rows whose mask names it."""
    keys, dims, value_dims = tl.arange(0, BLOCK_KEY), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    for start in range(0, nodes, BLOCK_KEY):
        node = start + keys
        inside = node < nodes
        key_rows = rows_of(key_pointer, start, keys, key_time_stride, dims, key_dim_stride)
        value_rows = rows_of(value_pointer, start, keys, value_time_stride, value_dims, value_dim_stride)
        key = tl.load(key_rows, mask=inside[:, None], other=0.0)
        value = tl.load(value_rows, mask=inside[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * score_scale
        # Lanes past the tree are not inside; they shift by less than 64 all the same, which more would leave undefined.
        bit = (seen_bits[:, None] >> tl.cast(node & 63, tl.int64)[None, :]) & 1
        scores = tl.where((bit == 1) & inside[None, :], scores, float("-inf"))
        larger = tl.maximum(maximum, tl.max(scores, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)  # no key seen yet: weights are 0, not nan
        weight = tl.exp2(scores - shift[:, None])
        rescale = tl.exp2(maximum - shift)
        total = total * rescale + tl.sum(weight, 1)
        accumulator = tl.dot(weight.to(value.dtype), value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger
    return maximum, total, accumulator


@triton.jit
def speculation_tree_kernel(
    query_pointer, key_pointer, value_pointer, mask_pointer, output_pointer, log_sum_exp_pointer,
    key_heads, nodes, key_time, splits, span,
    query_batch_stride, query_head_stride, query_time_stride, query_dim_stride,
    key_batch_stride, key_head_stride, key_time_stride, key_dim_stride,
    value_batch_stride, value_head_stride, value_time_stride, value_dim_stride,
    scale,
    GROUP: tl.constexpr, ROWS: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_KEY: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The Part of the text's keys split · span … (split + 1) · span; the last split has the tree, too (eq. tree-mask)

    query: [batch, heads, nodes, HEAD_DIM]; key, value: [batch, key_heads, key_time, ·], whose last `nodes` rows are the
    tree's; mask: int64 [batch, nodes], contiguous. output: [batch, heads, nodes, splits, VALUE_DIM] and log_sum_exp:
    [batch, heads, nodes, splits], float32, contiguous. One program owns one split of one key head for ROWS of its
    nodes · GROUP rows.
    """
    rows = nodes * GROUP
    tile, pair = program_of(tl.cdiv(rows, ROWS))
    split, row = pair % splits, pair // splits
    batch, key_head = tl.cast(row // key_heads, tl.int64), tl.cast(row % key_heads, tl.int64)
    place, dims, value_dims = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there, node, member = place < rows, place // GROUP, place % GROUP
    query_pointer += batch * query_batch_stride + key_head * GROUP * query_head_stride
    places = tl.cast(member, tl.int64) * query_head_stride + tl.cast(node, tl.int64) * query_time_stride
    query_rows = query_pointer + places[:, None] + tl.cast(dims, tl.int64)[None, :] * query_dim_stride
    query = tl.load(query_rows, mask=there[:, None], other=0.0)
    key_pointer += batch * key_batch_stride + key_head * key_head_stride
    value_pointer += batch * value_batch_stride + key_head * value_head_stride

    text = key_time - nodes
    begin = tl.minimum(split * span, text)
    end = tl.minimum(begin + span, text)
    full = begin + (end - begin) // BLOCK_KEY * BLOCK_KEY
    maximum = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    accumulator = tl.zeros([ROWS, VALUE_DIM], tl.float32)
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, begin, full,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        node, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, False, False, False, PRECISION,
    )  # fmt: skip
    maximum, total, accumulator = absorb(
        maximum, total, accumulator, query, key_pointer, value_pointer, full, end,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride,
        node, 0, 0, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, False, False, True, PRECISION,
    )  # fmt: skip
    here = tl.where(split == splits - 1, nodes, 0)  # of the tree's keys: all, or none
    seen_bits = tl.load(mask_pointer + batch * nodes + node, mask=place < here * GROUP, other=0)
    maximum, total, accumulator = absorb_tree(
        maximum, total, accumulator, query, seen_bits,
        key_pointer + text * key_time_stride, value_pointer + text * value_time_stride,
        here,
        key_time_stride, key_dim_stride, value_time_stride, value_dim_stride, scale * LOG2_E,
        HEAD_DIM, VALUE_DIM, BLOCK_KEY, PRECISION,
    )  # fmt: skip

    safe = tl.where(total == 0.0, 1.0, total)
    head = row * GROUP + member  # counted over the batch
    part = (tl.cast(head, tl.int64) * nodes + node) * splits + split
    output_rows = output_pointer + (part * VALUE_DIM)[:, None] + value_dims[None, :]
    tl.store(output_rows, accumulator / safe[:, None], mask=there[:, None])
    tl.store(log_sum_exp_pointer + part, (maximum + tl.log2(safe)) / LOG2_E, mask=there)


def layout_of(query, key, value, splits=None):
    """(rows of a tile, tiles per key head, keys of a block, splits of the text) of a launch."""
    batch, heads, nodes, head_dim = query.shape
    key_heads = key.shape[1]
    configuration, _ = choose("tree", query.dtype, head_dim, value.shape[3])
    rows = nodes * (heads // key_heads)
    tile = max(16, min(configuration.rows, triton.next_power_of_2(rows)))
    tiles = triton.cdiv(rows, tile)
    if splits is None:
        programs = batch * key_heads * tiles
        splits = splits_for(key.shape[2] - nodes, programs, configuration.keys, multiprocessors(query.device))
    return tile, tiles, configuration.keys, splits


def launch_tree(query, key, value, masks, scale, splits=None):
    """Launch over batch · key_heads · splits · tiles of rows, then merge. Shapes as in `speculation.tree_attention`.

    query: [batch, heads, nodes, head_dim]; key, value: [batch, key_heads, key_time, ·], the tree's rows last; masks:
    int64 [batch, nodes]. Returns (output: [batch, heads, nodes, value_dim] in the query's dtype, log_sum_exp: [batch,
    heads, nodes] float32). splits: programs per key head and tile, chosen if None.
    """
    batch, heads, nodes, head_dim = query.shape
    key_heads, key_time, value_dim = key.shape[1], key.shape[2], value.shape[3]
    configuration, precision = choose("tree", query.dtype, head_dim, value_dim)
    if nodes > min(MOST, key_time):
        raise ValueError(f"the kernel takes up to {MOST} nodes, all of them in the cache; got {nodes} and {key_time}.")
    output = torch.empty(batch, heads, nodes, value_dim, dtype=query.dtype, device=query.device)
    log_sum_exp = torch.empty(batch, heads, nodes, dtype=torch.float32, device=query.device)
    if output.numel() == 0:
        return output, log_sum_exp
    tile, tiles, block_key, splits = layout_of(query, key, value, splits)
    span = triton.cdiv(triton.cdiv(key_time - nodes, splits), block_key) * block_key
    part_output = torch.empty(batch, heads, nodes, splits, value_dim, dtype=torch.float32, device=query.device)
    part_sum = torch.empty(batch, heads, nodes, splits, dtype=torch.float32, device=query.device)
    speculation_tree_kernel[(batch * key_heads * splits * tiles,)](
        query, key, value, masks.contiguous(), part_output, part_sum,
        key_heads, nodes, key_time, splits, span,
        *query.stride(), *key.stride(), *value.stride(),
        scale,
        GROUP=heads // key_heads,
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
