"""The head step backward, through the rows: the gate, the gated unit, the two products in, modulation and norm."""

import torch
import triton
import triton.language as tl

from kernels.latents.configurations import WARPS, choose, whole_rows
from kernels.latents.forward import GATE, SCALE, _blocks, third_of
from kernels.tiles import program_of, rows_of


@triton.jit
def head_gate_backward_kernel(
    grad_pointer, kept_pointer, modulation_pointer, grad_modulation_pointer, grad_product_pointer,
    rows, width,
    grad_row_stride, grad_dim_stride, modulation_row_stride, modulation_dim_stride,
    BLOCK_ROW: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    """∂gate = grad ⊙ product, ∂product = grad ⊙ gate     (eq. latents-backward)

    grad: [rows, width]; kept: the product of the forward pass, ∂product: [rows, width], contiguous; ∂gate is stored as
    the last third of grad_modulation: [rows, 3 width], contiguous. One program owns BLOCK_ROW whole rows.
    """
    first, places = tl.program_id(0) * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    dims = tl.arange(0, BLOCK_WIDTH)
    inside = (first + places < rows)[:, None] & (dims < width)[None, :]
    grad_rows = rows_of(grad_pointer, first, places, grad_row_stride, dims, grad_dim_stride)
    grad = tl.load(grad_rows, mask=inside, other=0.0).to(tl.float32)
    gate_pointer = third_of(modulation_pointer, GATE, width, modulation_dim_stride)
    gate_rows = rows_of(gate_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
    gate = tl.load(gate_rows, mask=inside, other=0.0).to(tl.float32)
    product = tl.load(rows_of(kept_pointer, first, places, width, dims, 1), mask=inside, other=0.0).to(tl.float32)
    grad_gate_pointer = third_of(grad_modulation_pointer, GATE, width, 1)
    tl.store(rows_of(grad_gate_pointer, first, places, 3 * width, dims, 1), grad * product, mask=inside)
    tl.store(rows_of(grad_product_pointer, first, places, width, dims, 1), grad * gate, mask=inside)


@triton.jit
def head_inner_backward_kernel(
    grad_product_pointer, down_pointer, kept_pointer, inner_pointer, grad_pointer,
    rows, width, hidden, hidden_tiles,
    down_row_stride, down_dim_stride,
    BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """∂inner = ∂product down, and through the gated unit of the kept products a and b, inner = a σ(a) b.

    ∂a = ∂inner b σ(a) (1 + a (1 - σ(a))), ∂b = ∂inner a σ(a)     (eq. latents-backward). ∂product: [rows, width];
    kept: [rows, 2 hidden], a and b side by side; grad: the same of ∂a and ∂b; inner: [rows, hidden], made again for the
    gradient of `down`; all contiguous. One program owns a tile of rows and a tile of hidden columns.
    """
    hidden_tile, row_tile = program_of(hidden_tiles)
    first, places = row_tile * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    names = hidden_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    here, there = first + places < rows, names < hidden
    grad = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, width, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < width
        product_rows = rows_of(grad_product_pointer, first, places, width, dims, 1)
        product = tl.load(product_rows, mask=here[:, None] & known[None, :], other=0.0)
        matrix_rows = rows_of(down_pointer, 0, dims, down_row_stride, names, down_dim_stride)
        matrix = tl.load(matrix_rows, mask=known[:, None] & there[None, :], other=0.0)
        grad = tl.dot(product, matrix, grad, input_precision=PRECISION)
    inside = here[:, None] & there[None, :]
    kept_rows = rows_of(kept_pointer, first, places, 2 * hidden, names, 1)
    active = tl.load(kept_rows, mask=inside, other=0.0).to(tl.float32)
    linear = tl.load(kept_rows + hidden, mask=inside, other=0.0).to(tl.float32)
    share = tl.sigmoid(active)
    grad_rows = rows_of(grad_pointer, first, places, 2 * hidden, names, 1)
    tl.store(grad_rows, grad * linear * share * (1.0 + active * (1.0 - share)), mask=inside)
    tl.store(grad_rows + hidden, grad * active * share, mask=inside)
    tl.store(rows_of(inner_pointer, first, places, hidden, names, 1), active * share * linear, mask=inside)


@triton.jit
def head_hidden_backward_kernel(
    grad_pointer, active_pointer, linear_pointer, output_pointer,
    rows, width, hidden, width_tiles,
    active_row_stride, active_dim_stride, linear_row_stride, linear_dim_stride,
    BLOCK_ROW: tl.constexpr, BLOCK_COLUMN: tl.constexpr, BLOCK_INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """∂shift = ∂a active + ∂b linear: the gradient of what the products read     (eq. latents-backward)

    grad: [rows, 2 hidden], ∂a and ∂b side by side, contiguous; active, linear: [hidden, width]; ∂shift is stored as the
    first third of output: [rows, 3 width], contiguous. One program owns a tile of rows and a tile of columns.
    """
    width_tile, row_tile = program_of(width_tiles)
    first, places = row_tile * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    names = width_tile * BLOCK_COLUMN + tl.arange(0, BLOCK_COLUMN)
    here, there = first + places < rows, names < width
    output = tl.zeros([BLOCK_ROW, BLOCK_COLUMN], tl.float32)
    for start in range(0, hidden, BLOCK_INNER):
        dims = start + tl.arange(0, BLOCK_INNER)
        known = dims < hidden
        grad_rows = rows_of(grad_pointer, first, places, 2 * hidden, dims, 1)
        left, right = here[:, None] & known[None, :], known[:, None] & there[None, :]
        grad = tl.load(grad_rows, mask=left, other=0.0)
        matrix_rows = rows_of(active_pointer, 0, dims, active_row_stride, names, active_dim_stride)
        output = tl.dot(grad, tl.load(matrix_rows, mask=right, other=0.0), output, input_precision=PRECISION)
        grad = tl.load(grad_rows + hidden, mask=left, other=0.0)
        matrix_rows = rows_of(linear_pointer, 0, dims, linear_row_stride, names, linear_dim_stride)
        output = tl.dot(grad, tl.load(matrix_rows, mask=right, other=0.0), output, input_precision=PRECISION)
    output_rows = rows_of(output_pointer, first, places, 3 * width, names, 1)
    tl.store(output_rows, output, mask=here[:, None] & there[None, :])


@triton.jit
def head_norm_backward_kernel(
    u_pointer, modulation_pointer, root_pointer, grad_pointer, grad_modulation_pointer, grad_u_pointer,
    rows, width,
    u_row_stride, u_dim_stride, modulation_row_stride, modulation_dim_stride, grad_row_stride, grad_dim_stride,
    BLOCK_ROW: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
):  # fmt: skip
    """∂scale = ∂shift ⊙ n, ∂u = grad + root (∂n - n mean(∂n ⊙ n)), n = root u, ∂n = ∂shift ⊙ (1 + scale).

    (eq. latents-backward). u, grad, grad_u: [rows, width]; root: float32 [rows]; ∂shift is read from the first third of
    grad_modulation: [rows, 3 width], contiguous, and ∂scale stored as its second. One program owns BLOCK_ROW whole
    rows.
    """
    first, places = tl.program_id(0) * BLOCK_ROW, tl.arange(0, BLOCK_ROW)
    dims = tl.arange(0, BLOCK_WIDTH)
    here = first + places < rows
    inside = here[:, None] & (dims < width)[None, :]
    u = tl.load(rows_of(u_pointer, first, places, u_row_stride, dims, u_dim_stride), mask=inside, other=0.0)
    root = tl.load(root_pointer + tl.cast(first + places, tl.int64), mask=here, other=0.0)
    scale_pointer = third_of(modulation_pointer, SCALE, width, modulation_dim_stride)
    scale_rows = rows_of(scale_pointer, first, places, modulation_row_stride, dims, modulation_dim_stride)
    scale = tl.load(scale_rows, mask=inside, other=0.0).to(tl.float32)
    shift_rows = rows_of(grad_modulation_pointer, first, places, 3 * width, dims, 1)
    grad_shift = tl.load(shift_rows, mask=inside, other=0.0).to(tl.float32)
    normal = u.to(tl.float32) * root[:, None]
    tl.store(shift_rows + width, grad_shift * normal, mask=inside)
    grad_normal = grad_shift * (1.0 + scale)
    mean = tl.sum(grad_normal * normal, 1) / width
    grad_rows = rows_of(grad_pointer, first, places, grad_row_stride, dims, grad_dim_stride)
    grad = tl.load(grad_rows, mask=inside, other=0.0).to(tl.float32)
    grad_u = grad + root[:, None] * (grad_normal - normal * mean[:, None])
    tl.store(rows_of(grad_u_pointer, first, places, width, dims, 1), grad_u, mask=inside)


def launch_gate_backward(grad, product, modulation):
    """(grad_modulation: [rows, 3 width], its last third written, ∂product: [rows, width])."""
    rows, width = grad.shape
    grad_modulation = torch.empty(rows, 3 * width, dtype=grad.dtype, device=grad.device)
    grad_product = torch.empty(rows, width, dtype=grad.dtype, device=grad.device)
    block_row, block_width = whole_rows(width)
    if rows:
        head_gate_backward_kernel[(triton.cdiv(rows, block_row),)](
            grad, product, modulation, grad_modulation, grad_product,
            rows, width,
            *grad.stride(), *modulation.stride(),
            BLOCK_ROW=block_row, BLOCK_WIDTH=block_width, num_warps=WARPS,
        )  # fmt: skip
    return grad_modulation, grad_product


def launch_inner_backward(grad_product, down, products):
    """(inner: [rows, hidden], ∂products: [rows, 2 hidden]) from ∂product: [rows, width] and the kept products."""
    (rows, width), hidden = grad_product.shape, down.shape[1]
    row = choose(grad_product.dtype, rows)
    inner = torch.empty(rows, hidden, dtype=grad_product.dtype, device=grad_product.device)
    grad = torch.empty(rows, 2 * hidden, dtype=grad_product.dtype, device=grad_product.device)
    tiles = triton.cdiv(hidden, row.block_column)
    if rows:
        head_inner_backward_kernel[(triton.cdiv(rows, row.block_row) * tiles,)](
            grad_product, down, products, inner, grad,
            rows, width, hidden, tiles,
            *down.stride(),
            **_blocks(row),
        )  # fmt: skip
    return inner, grad


def launch_hidden_backward(grad, active, linear, grad_modulation):
    """Write ∂shift into the first third of grad_modulation: [rows, 3 width], from ∂products: [rows, 2 hidden]."""
    (hidden, width), rows = active.shape, len(grad)
    row = choose(grad.dtype, rows)
    tiles = triton.cdiv(width, row.block_column)
    if rows:
        head_hidden_backward_kernel[(triton.cdiv(rows, row.block_row) * tiles,)](
            grad, active, linear, grad_modulation,
            rows, width, hidden, tiles,
            *active.stride(), *linear.stride(),
            **_blocks(row),
        )  # fmt: skip
    return grad_modulation


def launch_norm_backward(u, modulation, root, grad, grad_modulation):
    """∂u: [rows, width], contiguous; ∂scale is written into the second third of grad_modulation."""
    rows, width = u.shape
    grad_u = torch.empty(rows, width, dtype=u.dtype, device=u.device)
    block_row, block_width = whole_rows(width)
    if rows:
        head_norm_backward_kernel[(triton.cdiv(rows, block_row),)](
            u, modulation, root, grad, grad_modulation, grad_u,
            rows, width,
            *u.stride(), *modulation.stride(), *grad.stride(),
            BLOCK_ROW=block_row, BLOCK_WIDTH=block_width, num_warps=WARPS,
        )  # fmt: skip
    return grad_u
