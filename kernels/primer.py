"""The kernels of the Triton primer: an element-wise one, a reduction, and a blocked product."""

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
    if not source.is_contiguous():
        raise ValueError(f"source must be contiguous; its strides are {source.stride()}: call .contiguous() first.")
    target = torch.empty_like(source)
    if source.numel():
        grid = (triton.cdiv(source.numel(), block),)
        scale_kernel[grid](source, target, source.numel(), factor, BLOCK=block)
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
    values = tl.load(
        source_pointer + row * row_stride + places * column_stride, mask=places < columns, other=float("-inf")
    )
    tl.store(target_pointer + row, tl.max(values, 0))


def row_maximum(source):
    """The largest element of each row of a [rows, columns] tensor, whatever its strides."""
    runtime.require_kernels()
    rows, columns = source.shape
    target = torch.empty(rows, dtype=source.dtype, device=source.device)
    row_maximum_kernel[(rows,)](
        source, target, columns, source.stride(0), source.stride(1), BLOCK=triton.next_power_of_2(columns)
    )
    return target


@triton.jit
def product_kernel(
    left_pointer, right_pointer, target_pointer,
    rows, inner, columns,
    left_row_stride, left_inner_stride, right_inner_stride, right_column_stride,
    BLOCK: tl.constexpr,
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
        total = tl.dot(left, right, total, input_precision="ieee")
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    tl.store(target_pointer + row[:, None] * columns + column[None, :], total, mask=inside)


def product(left, right, block=16):
    """left: [rows, inner] times right: [inner, columns], float32 sums. Raises ValueError if the inner sizes differ."""
    runtime.require_kernels()
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"inner sizes must agree; got {tuple(left.shape)} and {tuple(right.shape)}.")
    rows, inner, columns = *left.shape, right.shape[1]
    target = torch.empty(rows, columns, dtype=torch.float32, device=left.device)
    grid = (triton.cdiv(rows, block), triton.cdiv(columns, block))
    product_kernel[grid](
        left, right, target, rows, inner, columns, *left.stride(), *right.stride(), BLOCK=block, num_warps=4
    )
    return target


def example_launches(dtype=torch.float32, head_dim=64, device="cpu"):
    """Call every launcher once on aligned tensors: what tracing and inspection look at."""
    tile = torch.zeros(128, head_dim, dtype=dtype, device=device)
    scale(tile, 2.0)
    row_maximum(tile)
    product(tile, tile.mT, block=32)


def ragged_launches(dtype=torch.float32, device="cpu"):
    """Yield (what, call) over sizes that no block divides, strided views, and nothing: what the sanitizer judges."""
    for rows, inner, columns in ((1, 1, 1), (33, 65, 17), (63, 257, 5), (0, 3, 2)):
        left = scattered(rows, inner, dtype=dtype, device=device)
        right = scattered(columns, inner, dtype=dtype, device=device).mT
        yield f"product, {rows} by {inner} by {columns}", partial(product, left, right)
        yield f"row maximum, {rows} by {inner}", partial(row_maximum, left)
        yield f"scale, {rows} by {inner}", partial(scale, left.contiguous(), 3.0)
