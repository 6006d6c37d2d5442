"""Attention over a graph in blocks: only blocks with an edge are visited, each with a tile of biases."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.tiles import LOG2_E, program_of, rows_of

HEAD_DIMS = (32, 64, 128)
BLOCK, WARPS = 16, 4


@triton.jit
def graph_attention_kernel(
    query_pointer, key_pointer, value_pointer, bias_pointer, first_pointer, column_pointer, output_pointer,
    log_sum_exp_pointer,
    asks, answers,
    query_head_stride, query_time_stride, query_dim_stride,
    key_head_stride, key_time_stride, key_dim_stride,
    value_head_stride, value_time_stride, value_dim_stride,
    scale,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """output = softmax(scale · query keyᵀ + bias) value over the live blocks of a row     (eq. coattention-attend)

    bias: float32 [live, BLOCK, BLOCK], ln of edge weights, -inf where there is none; first: int32 [blocks + 1]; column:
    int32 [live]. output: [heads, asks, VALUE_DIM] and log_sum_exp: [heads, asks] float32, contiguous, written in full;
    a row that sees nothing gives 0 and -inf. One program owns a block of rows of a head.
    """
    tile, head = program_of(tl.cdiv(asks, BLOCK))
    head = tl.cast(head, tl.int64)
    block, dims, value_dims = tl.arange(0, BLOCK), tl.arange(0, HEAD_DIM), tl.arange(0, VALUE_DIM)
    there = tile * BLOCK + block < asks
    rows = rows_of(query_pointer + head * query_head_stride, tile * BLOCK, block, query_time_stride, dims,
                   query_dim_stride)  # fmt: skip
    query = tl.load(rows, mask=there[:, None], other=0.0).to(tl.float32)
    key_pointer += head * key_head_stride
    value_pointer += head * value_head_stride
    maximum = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    accumulator = tl.zeros([BLOCK, VALUE_DIM], tl.float32)
    for live in range(tl.load(first_pointer + tile), tl.load(first_pointer + tile + 1)):
        start = tl.load(column_pointer + live) * BLOCK
        inside = start + block < answers
        rows = rows_of(key_pointer, start, block, key_time_stride, dims, key_dim_stride)
        key = tl.load(rows, mask=inside[:, None], other=0.0).to(tl.float32)
        tile_of_bias = bias_pointer + tl.cast(live, tl.int64) * BLOCK * BLOCK
        bias = tl.load(tile_of_bias + block[:, None] * BLOCK + block[None, :])
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale + bias
        score = tl.where(inside[None, :], score * LOG2_E, float("-inf"))
        larger = tl.maximum(maximum, tl.max(score, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)  # nothing seen yet: weights 0, not nan
        weights, rescale = tl.exp2(score - shift[:, None]), tl.exp2(maximum - shift)
        rows = rows_of(value_pointer, start, block, value_time_stride, value_dims, value_dim_stride)
        value = tl.load(rows, mask=inside[:, None], other=0.0).to(tl.float32)
        total = total * rescale + tl.sum(weights, 1)
        accumulator = tl.dot(weights, value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger
    total = tl.where(total == 0.0, 1.0, total)  # maximum + log2(1) is -inf where nothing was seen
    found = accumulator / total[:, None]
    rows = rows_of(output_pointer + head * asks * VALUE_DIM, tile * BLOCK, block, VALUE_DIM, value_dims, 1)
    tl.store(rows, found.to(output_pointer.dtype.element_ty), mask=there[:, None])
    log_sum_exp = (maximum + tl.log2(total)) / LOG2_E
    tl.store(log_sum_exp_pointer + head * asks + tile * BLOCK + block, log_sum_exp, mask=there)


def live_blocks(bias):
    """(tiles [live, BLOCK, BLOCK] float32, first int32 [blocks + 1], column int32 [live]) of a bias [asks, answers].

    A block is live where any entry is above -inf. Tiles that reach past the edge are filled with -inf.
    """
    asks, answers = bias.shape
    rows, columns = triton.cdiv(asks, BLOCK), triton.cdiv(answers, BLOCK)
    full = bias.new_full((rows * BLOCK, columns * BLOCK), float("-inf"), dtype=torch.float32)
    full[:asks, :answers] = bias
    tiles = full.view(rows, BLOCK, columns, BLOCK).transpose(1, 2)
    live = (tiles > float("-inf")).flatten(2).any(2)
    first = torch.cat([live.new_zeros(1, dtype=torch.int64), live.sum(1).cumsum(0)]).int()
    return tiles[live].contiguous(), first, live.nonzero()[:, 1].int().contiguous()


def launch_graph_attention(query, key, value, tiles, first, column, scale):
    """(output [heads, asks, value_dim], log_sum_exp [heads, asks]) by one launch. Tiles, first, column: `live_blocks`.

    query: [heads, asks, head_dim]; key: [heads, answers, head_dim]; value: [heads, answers, value_dim], any strides.
    Raises ValueError for dims that are not among HEAD_DIMS.
    """
    runtime.require_kernels(query.dtype)
    heads, asks, head_dim = query.shape
    answers, value_dim = value.shape[1:]
    if head_dim not in HEAD_DIMS or value_dim not in HEAD_DIMS:
        raise ValueError(f"head_dim and value_dim are among {HEAD_DIMS}; got {head_dim} and {value_dim}.")
    output = torch.empty(heads, asks, value_dim, dtype=value.dtype, device=value.device)
    log_sum_exp = torch.empty(heads, asks, dtype=torch.float32, device=value.device)
    programs = heads * triton.cdiv(asks, BLOCK)
    if programs:
        graph_attention_kernel[(programs,)](
            query, key, value, tiles, first, column, output, log_sum_exp,
            asks, answers,
            *query.stride(), *key.stride(), *value.stride(),
            scale,
            HEAD_DIM=head_dim, VALUE_DIM=value_dim, BLOCK=BLOCK, PRECISION="tf32x3", num_warps=WARPS, num_stages=1,
        )  # fmt: skip
    return output, log_sum_exp
