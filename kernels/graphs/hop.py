"""One hop of the series: each node gathers its neighbours' powers, and adds what it found to its sum. No atomics."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.tiles import program_of, rows_of

# Most nodes have few neighbours; 16 rows of 64 numbers are in flight at a time, and a program has registers to spare.
BLOCK_NEIGHBOUR, BLOCK_DIM, WARPS = 16, 64, 4


@triton.jit
def hop_kernel(
    power_pointer, total_pointer, next_pointer, output_pointer, offset_pointer, column_pointer, value_pointer,
    dim, dim_tiles,
    power_stride, power_dim_stride, total_stride, total_dim_stride,
    beta, scale,
    LAST: tl.constexpr, BLOCK_NEIGHBOUR: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """next[i] = β Σ_j value[i, j] · power[j];  output[i] = scale · (total[i] + next[i])     (eq. graphs-hop)

    power, total: [nodes, dim]; next, float32, and output: [nodes, dim], contiguous; offset: int64 [nodes + 1]; column:
    int64, value: float32 [entries]. With LAST next is not stored: nobody reads it. One program owns a node and a block
    of dims, and adds in the order of the neighbours.
    """
    dim_tile, node = program_of(dim_tiles)
    node = tl.cast(node, tl.int64)
    dims = dim_tile * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    known = dims < dim
    first, stop = tl.load(offset_pointer + node), tl.load(offset_pointer + node + 1)
    found = tl.zeros([BLOCK_DIM], tl.float32)
    for start in range(first, stop, BLOCK_NEIGHBOUR):
        entries = start + tl.arange(0, BLOCK_NEIGHBOUR)
        inside = entries < stop
        column = tl.load(column_pointer + entries, mask=inside, other=0)
        value = tl.load(value_pointer + entries, mask=inside, other=0.0)
        rows = rows_of(power_pointer, 0, column, power_stride, dims, power_dim_stride)
        row = tl.load(rows, mask=inside[:, None] & known[None, :], other=0.0).to(tl.float32)
        found += tl.sum(row * value[:, None], 0)
    found *= beta
    own = total_pointer + node * total_stride + tl.cast(dims, tl.int64) * total_dim_stride
    total = tl.load(own, mask=known, other=0.0).to(tl.float32) + found
    if not LAST:
        tl.store(next_pointer + node * dim + dims, found, mask=known)
    tl.store(output_pointer + node * dim + dims, scale * total, mask=known)


def launch_hop(power, total, offsets, columns, values, beta, scale, dtype, last):
    """(next, output) of one hop: next float32, None where it is the last; output in `dtype`. Shapes as the kernel's."""
    nodes, dim = power.shape
    output = torch.empty(nodes, dim, dtype=dtype, device=power.device)
    after = None if last else torch.empty(nodes, dim, dtype=torch.float32, device=power.device)
    dim_tiles = triton.cdiv(dim, BLOCK_DIM)
    if output.numel():
        hop_kernel[(nodes * dim_tiles,)](
            power, total, output if last else after, output, offsets, columns, values,
            dim, dim_tiles,
            *power.stride(), *total.stride(),
            beta, scale,
            LAST=last, BLOCK_NEIGHBOUR=BLOCK_NEIGHBOUR, BLOCK_DIM=BLOCK_DIM, num_warps=WARPS,
        )  # fmt: skip
    return after, output


def launch_smooth(update, offsets, columns, values, beta, layers, rescaled):
    """The whole series by `layers` launches: [nodes, dim] in the dtype of `update`, of any strides.

    offsets, columns: int64, values: float32, contiguous: a symmetric matrix in compressed rows.
    """
    runtime.require_kernels(update.dtype)
    scale = (1 - beta) / (1 - beta ** (layers + 1)) if rescaled else 1 - beta
    if layers == 0:
        return (scale * update.float()).to(update.dtype)
    power = total = update
    for layer in range(layers):
        last = layer == layers - 1
        factor, dtype = (scale, update.dtype) if last else (1.0, torch.float32)
        power, total = launch_hop(power, total, offsets, columns, values, beta, factor, dtype, last)
    return total
