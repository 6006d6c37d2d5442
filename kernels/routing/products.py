"""Products over ragged groups of rows: each row with its expert's matrix, and the gradient of those matrices."""

import torch
import triton
import triton.language as tl

from kernels.routing.configurations import choose
from kernels.tiles import program_of, rows_of


@triton.jit
def grouped_product_kernel(
    row_pointer, weight_pointer, output_pointer, order_pointer, offset_pointer, expert_pointer, first_pointer,
    inner, columns, column_tiles, experts, choices,
    row_stride, row_dim_stride, weight_expert_stride, weight_inner_stride, weight_column_stride,
    GATHERED: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """output[r] = row[r] weight[expert of r]     (eq. routing-grouped)

    row: [rows, inner], or with GATHERED [tokens, inner], read at order[r] // choices; weight: [experts, inner,
    columns]; output: [rows, columns], contiguous and written in full: rows of dropped choices are 0. One program owns
    a tile of rows, all of one expert, and a tile of columns; tiles of the same rows are neighbours in the grid.
    """
    column_tile, tile = program_of(column_tiles)
    expert = tl.load(expert_pointer + tile)
    first = tl.load(first_pointer + tile, mask=expert >= 0, other=0)
    end = tl.load(offset_pointer + expert + 1, mask=expert >= 0, other=0)
    rows = first + tl.arange(0, BLOCK_ROW)
    names = column_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    inside, there = rows < end, names < columns
    # A tile that nobody needs, and one of dropped rows, multiply nothing: the first stores nothing, the second zeros.
    live = (expert >= 0) & (expert < experts)
    depth = tl.where(live, inner, 0)
    weight_pointer += tl.cast(tl.where(live, expert, 0), tl.int64) * weight_expert_stride
    if GATHERED:
        source = tl.load(order_pointer + rows, mask=rows < tl.where(live, end, 0), other=0) // choices
    else:
        source = rows
    accumulator = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, depth, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < depth
        row_rows = rows_of(row_pointer, 0, source, row_stride, dims, row_dim_stride)
        row = tl.load(row_rows, mask=inside[:, None] & known[None, :], other=0.0)
        weight_rows = rows_of(weight_pointer, 0, dims, weight_inner_stride, names, weight_column_stride)
        weight = tl.load(weight_rows, mask=known[:, None] & there[None, :], other=0.0)
        accumulator = tl.dot(row, weight, accumulator, input_precision=PRECISION)
    output_rows = rows_of(output_pointer, 0, rows, columns, names, 1)
    tl.store(output_rows, accumulator, mask=inside[:, None] & there[None, :])


@triton.jit
def grouped_weights_kernel(
    row_pointer, grad_pointer, output_pointer, order_pointer, offset_pointer,
    inner, columns, inner_tiles, column_tiles, choices,
    row_stride, row_dim_stride, grad_stride, grad_dim_stride,
    GATHERED: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """output[e] = Σ over the rows r of expert e of row[r]ᵀ grad[r]     (eq. routing-weights)

    row: as in `grouped_product_kernel`; grad: [rows, columns]; output: [experts, inner, columns], contiguous. One
    program owns a tile of one expert's matrix and walks its rows in order. It always stores: an expert without rows
    gets 0.
    """
    column_tile, rest = program_of(column_tiles)
    inner_tile, expert = rest % inner_tiles, rest // inner_tiles
    begin, end = tl.load(offset_pointer + expert), tl.load(offset_pointer + expert + 1)
    dims = inner_tile * BLOCK_INNER + tl.arange(0, BLOCK_INNER)
    names = column_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    known, there = dims < inner, names < columns
    accumulator = tl.zeros([BLOCK_INNER, BLOCK_COLUMN], tl.float32)
    for start in range(begin, end, BLOCK_ROW):
        rows = start + tl.arange(0, BLOCK_ROW)
        inside = rows < end
        if GATHERED:
            source = tl.load(order_pointer + rows, mask=inside, other=0) // choices
        else:
            source = rows
        row_rows = rows_of(row_pointer, 0, source, row_stride, dims, row_dim_stride)
        row = tl.load(row_rows, mask=inside[:, None] & known[None, :], other=0.0)
        grad_rows = rows_of(grad_pointer, 0, rows, grad_stride, names, grad_dim_stride)
        grad = tl.load(grad_rows, mask=inside[:, None] & there[None, :], other=0.0)
        accumulator = tl.dot(tl.trans(row), grad, accumulator, input_precision=PRECISION)
    output_pointer += tl.cast(expert, tl.int64) * inner * columns
    output_rows = rows_of(output_pointer, 0, dims, columns, names, 1)
    tl.store(output_rows, accumulator, mask=known[:, None] & there[None, :])


def launch_product(rows, weight, plan, choices, gathered):
    """[rows of the plan, columns] from rows, [tokens or rows, inner], and weight: [experts, inner, columns]."""
    experts, inner, columns = weight.shape
    count, row = len(plan.order), choose(rows.dtype, len(plan.order), experts)._replace(block_row=plan.block_row)
    output = torch.empty(count, columns, dtype=rows.dtype, device=rows.device)
    column_tiles = triton.cdiv(columns, row.block_column)
    if output.numel():
        grouped_product_kernel[(len(plan.tile_expert) * column_tiles,)](
            rows, weight, output, plan.order, plan.offsets, plan.tile_expert, plan.tile_first,
            inner, columns, column_tiles, experts, choices,
            *rows.stride(), *weight.stride(),
            GATHERED=gathered, BLOCK_ROW=row.block_row, BLOCK_COLUMN=row.block_column, BLOCK_INNER=row.block_inner,
            PRECISION=row.precision, num_warps=row.warps, num_stages=row.stages,
        )  # fmt: skip
    return output


def launch_weights(rows, grad, plan, experts, choices, gathered):
    """[experts, inner, columns]: the gradient of the matrices, from rows as they were read and grad [rows, columns]."""
    inner, columns = rows.shape[1], grad.shape[1]
    row = choose(rows.dtype, len(plan.order), experts)
    output = torch.empty(experts, inner, columns, dtype=rows.dtype, device=rows.device)
    # The sum runs over rows here, and a tile is square.
    side = min(row.block_column, 64)
    tiles = triton.cdiv(inner, side), triton.cdiv(columns, side)
    if output.numel():
        grouped_weights_kernel[(experts * tiles[0] * tiles[1],)](
            rows, grad, output, plan.order, plan.offsets,
            inner, columns, *tiles, choices,
            *rows.stride(), *grad.stride(),
            GATHERED=gathered, BLOCK_ROW=row.block_walk, BLOCK_COLUMN=side, BLOCK_INNER=side,
            PRECISION=row.precision, num_warps=4, num_stages=row.stages,
        )  # fmt: skip
    return output
