"""The kernels of the Triton primer, one new idea each: element-wise ones, reductions, walks, tiles and a product."""

from functools import partial

import torch

from kernels import needs_triton, runtime  # noqa: F401  (first: it stops with a sentence where triton is missing)

# isort: split
import triton
import triton.language as tl

from kernels.sanitize import scattered


@triton.jit
def scale_kernel(source_pointer, target_pointer, size, factor, BLOCK: tl.constexpr):
    """target = factor · source, both contiguous with `size` elements. One program owns BLOCK of them.

    Places are counted in 64 bits, as in every kernel here: a tensor may hold more than 2^31 elements.
    """
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    source = tl.load(source_pointer + places, mask=inside, other=0.0)
    tl.store(target_pointer + places, factor * source, mask=inside)


def scale(source, factor, block=64):
    """factor · source for a contiguous tensor of any shape. Raises ValueError for one that is not contiguous."""
    runtime.require_kernels()
    _require_contiguous(source=source)
    target = torch.empty_like(source)
    if source.numel():
        grid = (triton.cdiv(source.numel(), block),)
        scale_kernel[grid](source, target, source.numel(), factor, BLOCK=block)
    return target


@triton.jit
def add_kernel(left_pointer, right_pointer, target_pointer, size, BLOCK: tl.constexpr):
    """target = left + right, all contiguous with `size` elements. One program owns BLOCK of them."""
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    left = tl.load(left_pointer + places, mask=inside, other=0.0)
    right = tl.load(right_pointer + places, mask=inside, other=0.0)
    tl.store(target_pointer + places, left + right, mask=inside)


def add(left, right, block=64):
    """left + right for contiguous tensors of one shape. Raises ValueError for others."""
    runtime.require_kernels()
    if left.shape != right.shape:
        raise ValueError(f"left and right must have one shape; got {tuple(left.shape)} and {tuple(right.shape)}.")
    _require_contiguous(left=left, right=right)
    target = torch.empty_like(left)
    if left.numel():
        add_kernel[(triton.cdiv(left.numel(), block),)](left, right, target, left.numel(), BLOCK=block)
    return target


@triton.jit
def row_maximum_kernel(
    source_pointer, target_pointer,
    columns,
    row_stride, column_stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """target[i] = the largest of source[i, :]. One program owns one row; BLOCK covers it, padded with -inf."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK).to(tl.int64)
    source_pointer += row * row_stride
    values = tl.load(source_pointer + places * column_stride, mask=places < columns, other=float("-inf"))
    tl.store(target_pointer + row, tl.max(values, 0))


def row_maximum(source):
    """The largest element of each row of a [rows, columns] tensor, whatever its strides."""
    rows, columns = _shape(source)
    target = torch.empty(rows, dtype=source.dtype, device=source.device)
    block = triton.next_power_of_2(columns)
    row_maximum_kernel[(rows,)](source, target, columns, *source.stride(), BLOCK=block)
    return target


@triton.jit
def row_softmax_kernel(
    source_pointer, target_pointer,
    columns,
    row_stride, column_stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """target[i] = softmax(source[i]), target contiguous. One program owns one row, and loads it once."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK).to(tl.int64)
    inside = places < columns
    source_pointer += row * row_stride
    scores = tl.load(source_pointer + places * column_stride, mask=inside, other=float("-inf"))
    scores = scores.to(tl.float32)
    weight = tl.exp(scores - tl.max(scores, 0))
    target_pointer += row * columns
    tl.store(target_pointer + places, weight / tl.sum(weight, 0), mask=inside)


def row_softmax(source):
    """The softmax of each row of a [rows, columns] tensor, whatever its strides: contiguous, in the source's dtype."""
    rows, columns = _shape(source)
    target = torch.empty(rows, columns, dtype=source.dtype, device=source.device)
    block = triton.next_power_of_2(columns)
    row_softmax_kernel[(rows,)](source, target, columns, *source.stride(), BLOCK=block)
    return target


@triton.jit
def causal_softmax_kernel(
    source_pointer, target_pointer,
    columns,
    row_stride, column_stride,
    BLOCK: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """`row_softmax_kernel`, and if CAUSAL row i sees the columns up to i alone: the others get weight 0."""
    row = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK).to(tl.int64)
    inside = places < columns
    source_pointer += row * row_stride
    scores = tl.load(source_pointer + places * column_stride, mask=inside, other=float("-inf"))
    scores = scores.to(tl.float32)
    if CAUSAL:
        scores = tl.where(places <= row, scores, float("-inf"))
    weight = tl.exp(scores - tl.max(scores, 0))
    target_pointer += row * columns
    tl.store(target_pointer + places, weight / tl.sum(weight, 0), mask=inside)


def causal_softmax(source, causal=True):
    """`row_softmax`, where row i sees columns 0..i alone unless causal is False."""
    rows, columns = _shape(source)
    target = torch.empty(rows, columns, dtype=source.dtype, device=source.device)
    block = triton.next_power_of_2(columns)
    causal_softmax_kernel[(rows,)](source, target, columns, *source.stride(), BLOCK=block, CAUSAL=causal)
    return target


@triton.jit
def absorb_scores(maximum, total, scores):
    """(maximum, total) of all scores seen so far, a block of new ones included; total: Σ exp(score - maximum)."""
    larger = tl.maximum(maximum, tl.max(scores, 0))
    total = total * tl.exp(maximum - larger) + tl.sum(tl.exp(scores - larger), 0)
    return larger, total


@triton.jit
def log_sum_exp_kernel(
    source_pointer, target_pointer,
    columns,
    row_stride, column_stride,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """target[i] = ln Σ_j exp(source[i, j]). One program walks one row, BLOCK elements at a time."""
    row = tl.program_id(0).to(tl.int64)
    source_pointer += row * row_stride
    maximum, total = float("-inf"), 0.0
    for start in range(0, columns, BLOCK):
        places = start + tl.arange(0, BLOCK).to(tl.int64)
        scores = tl.load(source_pointer + places * column_stride, mask=places < columns, other=float("-inf"))
        maximum, total = absorb_scores(maximum, total, scores.to(tl.float32))
    tl.store(target_pointer + row, maximum + tl.log(total))


def log_sum_exp(source, block=64):
    """ln Σ exp of each row of a [rows, columns] tensor of finite numbers: float32, rows as long as one likes."""
    rows, columns = _shape(source)
    target = torch.empty(rows, dtype=torch.float32, device=source.device)
    log_sum_exp_kernel[(rows,)](source, target, columns, *source.stride(), BLOCK=block)
    return target


@triton.jit
def transpose_kernel(
    source_pointer, target_pointer,
    rows, columns,
    row_stride, column_stride,
    BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr,
):  # fmt: skip
    """target = sourceᵀ, [columns, rows] contiguous. One program owns a tile of BLOCK_ROW × BLOCK_COLUMN elements."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROW + tl.arange(0, BLOCK_ROW)
    column = tl.program_id(1).to(tl.int64) * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    tile = tl.load(
        source_pointer + row[:, None] * row_stride + column[None, :] * column_stride,
        mask=inside,
        other=0.0,
    )
    places = column[:, None] * rows + row[None, :]
    inside = (column[:, None] < columns) & (row[None, :] < rows)
    tl.store(target_pointer + places, tl.trans(tile), mask=inside)


def transpose(source, block_row=32, block_column=32):
    """A contiguous copy of the transpose of a [rows, columns] tensor, whatever its strides."""
    rows, columns = _shape(source)
    target = torch.empty(columns, rows, dtype=source.dtype, device=source.device)
    grid = (triton.cdiv(rows, block_row), triton.cdiv(columns, block_column))
    transpose_kernel[grid](
        source, target, rows, columns, *source.stride(), BLOCK_ROW=block_row, BLOCK_COLUMN=block_column
    )
    return target


@triton.jit
def product_kernel(
    left_pointer, right_pointer, target_pointer,
    rows, inner, columns,
    left_row_stride, left_inner_stride, right_inner_stride, right_column_stride,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """target = left right, [rows, columns] contiguous. One program owns a BLOCK × BLOCK tile, and walks `inner`."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, inner, BLOCK):
        middle = start + tl.arange(0, BLOCK).to(tl.int64)
        left = tl.load(
            left_pointer + row[:, None] * left_row_stride + middle[None, :] * left_inner_stride,
            mask=(row[:, None] < rows) & (middle[None, :] < inner),
            other=0.0,
        )
        right = tl.load(
            right_pointer + middle[:, None] * right_inner_stride + column[None, :] * right_column_stride,
            mask=(middle[:, None] < inner) & (column[None, :] < columns),
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    tl.store(target_pointer + row[:, None] * columns + column[None, :], total, mask=inside)


def product(left, right, block=16, precision="ieee"):
    """left: [rows, inner] times right: [inner, columns], float32 sums. Raises ValueError if the inner sizes differ.

    precision: of the factors where they are float32, "ieee", "tf32" or "tf32x3" as `tl.dot` takes it.
    """
    runtime.require_kernels()
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"inner sizes must agree; got {tuple(left.shape)} and {tuple(right.shape)}.")
    rows, inner, columns = *left.shape, right.shape[1]
    target = torch.empty(rows, columns, dtype=torch.float32, device=left.device)
    grid = (triton.cdiv(rows, block), triton.cdiv(columns, block))
    product_kernel[grid](
        left, right, target,
        rows, inner, columns,
        *left.stride(), *right.stride(),
        BLOCK=block, PRECISION=precision, num_warps=4,
    )  # fmt: skip
    return target


def _shape(source):
    """(rows, columns). Raises ValueError for a tensor of other than two axes, or without a column."""
    runtime.require_kernels()
    if source.ndim != 2 or source.shape[1] == 0:
        raise ValueError(f"source must be [rows, columns] with at least one column; got {tuple(source.shape)}.")
    return source.shape


def _require_contiguous(**tensors):
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous; its strides are {tensor.stride()}: call .contiguous() first.")


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher once on aligned tensors: what tracing and inspection look at."""
    tile = torch.zeros(128, head_dim, dtype=dtype, device=device)
    scale(tile, 2.0)
    add(tile, tile)
    row_maximum(tile)
    row_softmax(tile)
    causal_softmax(tile, causal=False)
    causal_softmax(tile, causal=True)
    log_sum_exp(tile, block=32)
    transpose(tile)
    for precision in ("ieee", "tf32"):
        product(tile, tile.mT, block=32, precision=precision)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over sizes that no block divides, strided views, and nothing: what the sanitizer judges."""
    for rows, inner, columns in ((1, 1, 1), (33, 65, 17), (63, 257, 5), (0, 3, 2)):
        left = scattered(rows, inner, dtype=dtype, device=device)
        right = scattered(columns, inner, dtype=dtype, device=device).mT
        yield f"product, {rows} by {inner} by {columns}", partial(product, left, right)
        for launch in (row_maximum, row_softmax, causal_softmax, log_sum_exp, transpose):
            yield f"{launch.__name__}, {rows} by {inner}", partial(launch, left)
        yield f"scale, {rows} by {inner}", partial(scale, left.contiguous(), 3.0)
        yield f"add, {rows} by {inner}", partial(add, left.contiguous(), left.contiguous())
