"""The head step forward: norm and modulation, the two products in with their gated unit, the product out."""

import torch
import triton
import triton.language as tl

from kernels.latents.configurations import EPSILON, WARPS, choose, whole_rows
from kernels.tiles import program_of, rows_of

SHIFT, SCALE, GATE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # thirds of a row of the modulation


@triton.jit
def third_of(pointer, PART: tl.constexpr, width, dim_stride):
    """Where a third of the modulation begins: its rows are [shift | scale | gate], each `width` wide."""
    return pointer + PART * tl.cast(width, tl.int64) * dim_stride


@triton.jit
def head_modulate_kernel(
    u_pointer, modulation_pointer, output_pointer, root_pointer,
    rows, width,
    u_row_stride, u_dim_stride, modulation_row_stride, modulation_dim_stride,
    epsilon,
    BLOCK_ROW: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    """output[r] = root[r] u[r] ⊙ (1 + scale[r]) + shift[r], root = 1 / √(mean u² + ε)     (eq. latents-modulate)

    u: [rows, width]; modulation: [rows, 3 width]; output: [rows, width], root: float32 [rows], contiguous. One program
    owns BLOCK_ROW whole rows: what a row is divided by is known before any of it is stored.
    """
    first, places = tl.program_id(0) * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    dims = tl.arange(0, BLOCK_WIDTH)
    here = first + places < rows
    inside = here[:, None] & (dims < width)[None, :]
    u = tl.load(rows_of(u_pointer, first, places, u_row_stride, dims, u_dim_stride), mask=inside, other=0.0)
    u = u.to(tl.float32)
    root = tl.rsqrt(tl.sum(u * u, 1) / width + epsilon)
    # The thirds of the modulation: shift, scale.
    shift_pointer = third_of(modulation_pointer, SHIFT, width, modulation_dim_stride)
    scale_pointer = third_of(modulation_pointer, SCALE, width, modulation_dim_stride)
    shift_rows = rows_of(shift_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
    scale_rows = rows_of(scale_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
    shift = tl.load(shift_rows, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(scale_rows, mask=inside, other=0.0).to(tl.float32)
    output = u * root[:, None] * (1.0 + scale) + shift
    tl.store(rows_of(output_pointer, first, places, width, dims, 1), output, mask=inside)
    tl.store(root_pointer + tl.cast(first + places, tl.int64), root, mask=here)


@triton.jit
def matrix_tile(pointer, names, there, row_stride, dims, known, dim_stride):
    """A tile of a matrix [columns, inner] as a product takes it, [inner, columns]: turned while it is read."""
    tile_rows = rows_of(pointer, 0, dims, dim_stride, names, row_stride)
    return tl.load(tile_rows, mask=known[:, None] & there[None, :], other=0.0)


@triton.jit
def head_up_kernel(
    source_pointer, active_pointer, linear_pointer, output_pointer, kept_pointer,
    rows, width, hidden, hidden_tiles,
    active_row_stride, active_dim_stride, linear_row_stride, linear_dim_stride,
    KEPT: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """output = silu(source activeᵀ) ⊙ (source linearᵀ)     (eq. latents-up)

    source: [rows, width], contiguous; active, linear: [hidden, width]; output: [rows, hidden]; with KEPT the two
    products go to kept: [rows, 2 hidden]. One program owns a tile of rows and a tile of hidden columns, and reads its
    rows once for both matrices; tiles of the same rows are neighbours in the grid.
    """
    hidden_tile, row_tile = program_of(hidden_tiles)
    first, places = row_tile * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    names = hidden_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    here, there = first + places < rows, names < hidden
    active = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    linear = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, width, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < width
        source_rows = rows_of(source_pointer, first, places, width, dims, 1)
        source = tl.load(source_rows, mask=here[:, None] & known[None, :], other=0.0)
        matrix = matrix_tile(active_pointer, names, there, active_row_stride, dims, known, active_dim_stride)
        active = tl.dot(source, matrix, active, input_precision=PRECISION)
        matrix = matrix_tile(linear_pointer, names, there, linear_row_stride, dims, known, linear_dim_stride)
        linear = tl.dot(source, matrix, linear, input_precision=PRECISION)
    inside = here[:, None] & there[None, :]
    if KEPT:
        tl.store(rows_of(kept_pointer, first, places, 2 * hidden, names, 1), active, mask=inside)
        tl.store(rows_of(kept_pointer + hidden, first, places, 2 * hidden, names, 1), linear, mask=inside)
    output = active * tl.sigmoid(active) * linear
    tl.store(rows_of(output_pointer, first, places, hidden, names, 1), output, mask=inside)


@triton.jit
def head_sample_kernel(
    u_pointer, modulation_pointer, active_pointer, linear_pointer, output_pointer,
    rows, width, hidden, hidden_tiles,
    u_row_stride, u_dim_stride, modulation_row_stride, modulation_dim_stride,
    active_row_stride, active_dim_stride, linear_row_stride, linear_dim_stride,
    epsilon,
    BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`head_modulate_kernel` and `head_up_kernel` in one, for few rows, as a sampler has: a launch less.

    Every tile of hidden columns normalises its rows anew: u is read twice per tile, shift and scale once. With few
    rows that is little beside the weights, which either way are read once per tile of rows.
    """
    hidden_tile, row_tile = program_of(hidden_tiles)
    first, places = row_tile * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    names = hidden_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    here, there = first + places < rows, names < hidden
    shift_pointer = third_of(modulation_pointer, SHIFT, width, modulation_dim_stride)
    scale_pointer = third_of(modulation_pointer, SCALE, width, modulation_dim_stride)
    squares = tl.zeros([BLOCK_ROW], tl.float32)
    for start in range(0, width, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        inside = here[:, None] & (dims < width)[None, :]
        u = tl.load(rows_of(u_pointer, first, places, u_row_stride, dims, u_dim_stride), mask=inside, other=0.0)
        squares += tl.sum(u.to(tl.float32) * u.to(tl.float32), 1)
    root = tl.rsqrt(squares / width + epsilon)
    active = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    linear = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, width, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < width
        inside = here[:, None] & known[None, :]
        u = tl.load(rows_of(u_pointer, first, places, u_row_stride, dims, u_dim_stride), mask=inside, other=0.0)
        shift_rows = rows_of(shift_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
        scale_rows = rows_of(scale_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
        shift = tl.load(shift_rows, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(scale_rows, mask=inside, other=0.0).to(tl.float32)
        source = (u.to(tl.float32) * root[:, None] * (1.0 + scale) + shift).to(u.dtype)
        matrix = matrix_tile(active_pointer, names, there, active_row_stride, dims, known, active_dim_stride)
        active = tl.dot(source, matrix, active, input_precision=PRECISION)
        matrix = matrix_tile(linear_pointer, names, there, linear_row_stride, dims, known, linear_dim_stride)
        linear = tl.dot(source, matrix, linear, input_precision=PRECISION)
    output = active * tl.sigmoid(active) * linear
    tl.store(rows_of(output_pointer, first, places, hidden, names, 1), output, mask=here[:, None] & there[None, :])


@triton.jit
def head_down_kernel(
    inner_pointer, down_pointer, u_pointer, modulation_pointer, output_pointer, kept_pointer,
    rows, width, hidden, width_tiles,
    down_row_stride, down_dim_stride,
    u_row_stride, u_dim_stride, modulation_row_stride, modulation_dim_stride,
    KEPT: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """output = u + gate ⊙ (inner downᵀ)     (eq. latents-head-step)

    inner: [rows, hidden], contiguous; down: [width, hidden]; u: [rows, width]; modulation: [rows, 3 width]; output:
    [rows, width]; with KEPT the product goes to kept: [rows, width]. One program owns a tile of rows and of columns.
    """
    width_tile, row_tile = program_of(width_tiles)
    first, places = row_tile * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    names = width_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    here, there = first + places < rows, names < width
    product = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, hidden, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < hidden
        inner_rows = rows_of(inner_pointer, first, places, hidden, dims, 1)
        inner = tl.load(inner_rows, mask=here[:, None] & known[None, :], other=0.0)
        matrix = matrix_tile(down_pointer, names, there, down_row_stride, dims, known, down_dim_stride)
        product = tl.dot(inner, matrix, product, input_precision=PRECISION)
    inside = here[:, None] & there[None, :]
    gate_pointer = third_of(modulation_pointer, GATE, width, modulation_dim_stride)
    gate_rows = rows_of(gate_pointer, first, places, modulation_row_stride, names, modulation_dim_stride)
    gate = tl.load(gate_rows, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(rows_of(u_pointer, first, places, u_row_stride, names, u_dim_stride), mask=inside, other=0.0)
    if KEPT:
        tl.store(rows_of(kept_pointer, first, places, width, names, 1), product, mask=inside)
    output = u.to(tl.float32) + gate * product
    tl.store(rows_of(output_pointer, first, places, width, names, 1), output, mask=inside)


def launch_modulate(u, modulation):
    """(modulated: [rows, width], root: float32 [rows]) from u: [rows, width] and modulation: [rows, 3 width]."""
    rows, width = u.shape
    output = torch.empty(rows, width, dtype=u.dtype, device=u.device)
    root = torch.empty(rows, dtype=torch.float32, device=u.device)
    block_row, block_width = whole_rows(width)
    if rows:
        head_modulate_kernel[(triton.cdiv(rows, block_row),)](
            u, modulation, output, root,
            rows, width,
            *u.stride(), *modulation.stride(),
            EPSILON,
            BLOCK_ROW=block_row, BLOCK_WIDTH=block_width, num_warps=WARPS,
        )  # fmt: skip
    return output, root


def launch_up(source, active, linear, kept):
    """(inner: [rows, hidden], products: [rows, 2 hidden], or None unless kept) from source: [rows, width]."""
    (rows, width), hidden = source.shape, len(active)
    row = choose(source.dtype, rows)
    inner = torch.empty(rows, hidden, dtype=source.dtype, device=source.device)
    products = torch.empty(rows, 2 * hidden, dtype=source.dtype, device=source.device) if kept else None
    tiles = triton.cdiv(hidden, row.block_column)
    if rows:
        head_up_kernel[(triton.cdiv(rows, row.block_row) * tiles,)](
            source, active, linear, inner, products if kept else inner,
            rows, width, hidden, tiles,
            *active.stride(), *linear.stride(),
            KEPT=kept, **_blocks(row),
        )  # fmt: skip
    return inner, products


def launch_sample(u, modulation, active, linear):
    """inner: [rows, hidden] from u: [rows, width] and modulation: [rows, 3 width], in one launch."""
    (rows, width), hidden = u.shape, len(active)
    row = choose(u.dtype, rows)
    inner = torch.empty(rows, hidden, dtype=u.dtype, device=u.device)
    tiles = triton.cdiv(hidden, row.block_column)
    if rows:
        head_sample_kernel[(triton.cdiv(rows, row.block_row) * tiles,)](
            u, modulation, active, linear, inner,
            rows, width, hidden, tiles,
            *u.stride(), *modulation.stride(), *active.stride(), *linear.stride(),
            EPSILON,
            **_blocks(row),
        )  # fmt: skip
    return inner


def launch_down(inner, down, u, modulation, kept):
    """(output: [rows, width], product: [rows, width], or None unless kept) from inner: [rows, hidden]."""
    (rows, hidden), width = inner.shape, len(down)
    row = choose(inner.dtype, rows)
    output = torch.empty(rows, width, dtype=inner.dtype, device=inner.device)
    product = torch.empty_like(output) if kept else None
    tiles = triton.cdiv(width, row.block_column)
    if rows:
        head_down_kernel[(triton.cdiv(rows, row.block_row) * tiles,)](
            inner, down, u, modulation, output, product if kept else output,
            rows, width, hidden, tiles,
            *down.stride(), *u.stride(), *modulation.stride(),
            KEPT=kept, **_blocks(row),
        )  # fmt: skip
    return output, product


def _blocks(row):
    """What every product of a Configuration is launched with."""
    return dict(
        BLOCK_ROW=row.block_row, BLOCK_COLUMN=row.block_column, BLOCK_INNER=row.block_inner,
        PRECISION=row.precision, num_warps=row.warps, num_stages=row.stages,
    )  # fmt: skip
