"""One sweep over the weights of a rule layer: the hard answer and the soft sum together; and the slope of the sum."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.tiles import program_of, rows_of

# A tile of 32 rows by 64 nodes holds two sums of 16 numbers per thread; 32 inputs at a time are a whole step of the
# matrix unit's depth twice. The slope's tile is 64 inputs by 32 nodes, walked 32 rows at a time.
BLOCK_ROW, BLOCK_NODE, BLOCK_INPUT, WARPS = 32, 64, 32, 4
SLOPE_INPUT, SLOPE_NODE, SLOPE_ROW = 64, 32, 32
FLOOR = 1e-4  # of 1 - W in the logarithm, as in effattn_core.discrete.activations


@triton.jit
def counted(weight, alpha, beta, floor, STRETCHED: tl.constexpr):
    """What a violated literal of this weight adds to the sum: φ(W), or -ln(1 - W)."""
    if STRETCHED:
        power = tl.exp2(beta * tl.log2(tl.maximum(alpha * weight, 1e-30)))
        return power / (1 - power)
    return -tl.log(tl.maximum(1 - weight, floor))


@triton.jit
def slope_of(weight, alpha, beta, floor, STRETCHED: tl.constexpr):
    """The derivative of `counted`: φ'(W), 0 at W = 0 for beta above 1, or 1 / (1 - W)."""
    if STRETCHED:
        lower = tl.exp2((beta - 1) * tl.log2(tl.maximum(alpha * weight, 1e-30)))
        rest = 1 - lower * alpha * weight
        return alpha * beta * lower / (rest * rest)
    return 1 / tl.maximum(1 - weight, floor)


@triton.jit
def sweep_kernel(
    violated_pointer, weight_pointer, total_pointer, hard_pointer,
    rows, inputs, nodes, node_tiles,
    violated_stride, violated_input_stride, weight_stride, weight_node_stride,
    alpha, beta, floor, most,
    STRETCHED: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_INPUT: tl.constexpr, BLOCK_NODE: tl.constexpr,
):  # fmt: skip
    """total = most · u f(W);  hard = 1 where u 1[W > ½] is 0     (eq. discrete-sums, discrete-hard)

    violated: u, uint8 [rows, inputs]; weight: [inputs, nodes]; total: float32, hard: uint8 [rows, nodes], contiguous.
    One program owns a tile of rows and nodes and walks the inputs: each weight that it loads serves both sums.
    """
    node_tile, row_tile = program_of(node_tiles)
    row, node = row_tile * BLOCK_ROW + tl.arange(0, BLOCK_ROW), node_tile * BLOCK_NODE + tl.arange(0, BLOCK_NODE)
    total = tl.zeros([BLOCK_ROW, BLOCK_NODE], tl.float32)
    count = tl.zeros([BLOCK_ROW, BLOCK_NODE], tl.float32)
    for first in range(0, inputs, BLOCK_INPUT):
        each = first + tl.arange(0, BLOCK_INPUT)
        violated = tl.load(
            rows_of(violated_pointer, 0, row, violated_stride, each, violated_input_stride),
            mask=(row < rows)[:, None] & (each < inputs)[None, :], other=0,
        )  # fmt: skip
        weight = tl.load(
            rows_of(weight_pointer, 0, each, weight_stride, node, weight_node_stride),
            mask=(each < inputs)[:, None] & (node < nodes)[None, :], other=0.0,
        ).to(tl.float32)  # fmt: skip
        soft = counted(weight, alpha, beta, floor, STRETCHED)
        total = tl.dot(violated.to(tl.float32), soft, total, input_precision="ieee")
        cut = (weight > 0.5).to(tl.float16)  # 0 and 1 are exact in half precision, and sums of them in float32
        count = tl.dot(violated.to(tl.float16), cut, count)
    known = (row < rows)[:, None] & (node < nodes)[None, :]
    tl.store(rows_of(total_pointer, 0, row, nodes, node, 1), most * total, mask=known)
    tl.store(rows_of(hard_pointer, 0, row, nodes, node, 1), (count < 0.5).to(tl.uint8), mask=known)


@triton.jit
def slope_kernel(
    violated_pointer, weight_pointer, grad_pointer, slope_pointer,
    rows, inputs, nodes, node_tiles,
    violated_stride, violated_input_stride, weight_stride, weight_node_stride, grad_stride, grad_node_stride,
    alpha, beta, floor, most,
    STRETCHED: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_INPUT: tl.constexpr, BLOCK_NODE: tl.constexpr,
):  # fmt: skip
    """slope = most · f'(W) ⊙ uᵀ grad     (eq. discrete-slope); grad: of the total, float32 [rows, nodes]

    slope: [inputs, nodes] in the dtype of the weight, contiguous. One program owns a tile of it and walks the rows in
    order: no atomics.
    """
    node_tile, input_tile = program_of(node_tiles)
    each, node = input_tile * BLOCK_INPUT + tl.arange(0, BLOCK_INPUT), node_tile * BLOCK_NODE + tl.arange(0, BLOCK_NODE)
    found = tl.zeros([BLOCK_INPUT, BLOCK_NODE], tl.float32)
    for first in range(0, rows, BLOCK_ROW):
        row = first + tl.arange(0, BLOCK_ROW)
        violated = tl.load(
            rows_of(violated_pointer, 0, row, violated_stride, each, violated_input_stride),
            mask=(row < rows)[:, None] & (each < inputs)[None, :], other=0,
        )  # fmt: skip
        grad = tl.load(
            rows_of(grad_pointer, 0, row, grad_stride, node, grad_node_stride),
            mask=(row < rows)[:, None] & (node < nodes)[None, :], other=0.0,
        )  # fmt: skip
        found = tl.dot(tl.trans(violated.to(tl.float32)), grad, found, input_precision="ieee")
    known = (each < inputs)[:, None] & (node < nodes)[None, :]
    weight = tl.load(
        rows_of(weight_pointer, 0, each, weight_stride, node, weight_node_stride), mask=known, other=0.0
    ).to(tl.float32)  # fmt: skip
    found *= most * slope_of(weight, alpha, beta, floor, STRETCHED)
    tl.store(rows_of(slope_pointer, 0, each, nodes, node, 1), found.to(slope_pointer.dtype.element_ty), mask=known)


def require_layer(violated, weight):
    """Raise ValueError unless violated is uint8 [rows, inputs] and weight a kernel's float [inputs, nodes]."""
    runtime.require_kernels(weight.dtype)
    if violated.dtype != torch.uint8:
        raise ValueError(f"violated must be uint8, 1 where a literal is false; got {violated.dtype}.")
    if violated.ndim != 2 or weight.ndim != 2 or violated.shape[1] != weight.shape[0]:
        given = f"{tuple(violated.shape)} and {tuple(weight.shape)}"
        raise ValueError(f"violated [rows, inputs] and weight [inputs, nodes] must share inputs; got {given}.")


def _most(alpha, beta, stretched):
    return alpha**beta / (1 - alpha**beta) if stretched else 1.0


def launch_sweep(violated, weight, alpha, beta, stretched):
    """(total float32, hard uint8), each [rows, nodes]. Shapes as the kernel's; alpha, beta: of φ, where stretched."""
    require_layer(violated, weight)
    (rows, inputs), nodes = violated.shape, weight.shape[1]
    total = torch.empty(rows, nodes, dtype=torch.float32, device=weight.device)
    hard = torch.empty(rows, nodes, dtype=torch.uint8, device=weight.device)
    node_tiles = triton.cdiv(nodes, BLOCK_NODE)
    if total.numel():
        sweep_kernel[(triton.cdiv(rows, BLOCK_ROW) * node_tiles,)](
            violated, weight, total, hard,
            rows, inputs, nodes, node_tiles,
            *violated.stride(), *weight.stride(),
            alpha, beta, FLOOR, _most(alpha, beta, stretched),
            STRETCHED=stretched, BLOCK_ROW=BLOCK_ROW, BLOCK_INPUT=BLOCK_INPUT, BLOCK_NODE=BLOCK_NODE, num_warps=WARPS,
        )  # fmt: skip
    return total, hard


def launch_slope(violated, weight, grad, alpha, beta, stretched):
    """The gradient of the weight, [inputs, nodes] in its dtype, from that of the total, float32 [rows, nodes]."""
    require_layer(violated, weight)
    (rows, inputs), nodes = violated.shape, weight.shape[1]
    slope = torch.empty(inputs, nodes, dtype=weight.dtype, device=weight.device)
    node_tiles = triton.cdiv(nodes, SLOPE_NODE)
    if slope.numel():
        slope_kernel[(triton.cdiv(inputs, SLOPE_INPUT) * node_tiles,)](
            violated, weight, grad, slope,
            rows, inputs, nodes, node_tiles,
            *violated.stride(), *weight.stride(), *grad.stride(),
            alpha, beta, FLOOR, _most(alpha, beta, stretched),
            STRETCHED=stretched, BLOCK_ROW=SLOPE_ROW, BLOCK_INPUT=SLOPE_INPUT, BLOCK_NODE=SLOPE_NODE, num_warps=WARPS,
        )  # fmt: skip
    return slope
