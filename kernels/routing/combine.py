"""Rows back to tokens: the weighted sum over a token's choices, in their order, and its gradient. No atomics."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.routing.configurations import BLOCK_DIM, BLOCK_TOKEN, WARPS
from kernels.tiles import program_of, rows_of


@triton.jit
def combine_kernel(
    row_pointer, gate_pointer, place_pointer, output_pointer,
    tokens, dim, dim_tiles,
    row_stride, row_dim_stride,
    CHOICES: tl.constexpr, WEIGHTED: tl.constexpr, BLOCK_TOKEN: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """output[i] = Σ_j gate[i, j] · row[place[i, j]]     (eq. routing-combine)

    row: [rows, dim]; gate, place: [tokens, CHOICES], contiguous; without WEIGHTED gates are 1 and not read. output:
    [tokens, dim], contiguous. One program owns a block of tokens and of dims, and adds in the order of the choices.
    """
    dim_tile, tile = program_of(dim_tiles)
    members = tl.cast(tile, tl.int64) * BLOCK_TOKEN + tl.arange(0, BLOCK_TOKEN)
    dims = dim_tile * BLOCK_DIM + tl.arange(0, BLOCK_DIM)
    inside, known = members < tokens, dims < dim
    accumulator = tl.zeros([BLOCK_TOKEN, BLOCK_DIM], tl.float32)
    for choice in range(CHOICES):
        place = tl.load(place_pointer + members * CHOICES + choice, mask=inside, other=0)
        rows = rows_of(row_pointer, 0, place, row_stride, dims, row_dim_stride)
        row = tl.load(rows, mask=inside[:, None] & known[None, :], other=0.0).to(tl.float32)
        if WEIGHTED:
            gate = tl.load(gate_pointer + members * CHOICES + choice, mask=inside, other=0.0).to(tl.float32)
            row = row * gate[:, None]
        accumulator += row
    tl.store(rows_of(output_pointer, 0, members, dim, dims, 1), accumulator, mask=inside[:, None] & known[None, :])


@triton.jit
def expand_kernel(
    grad_pointer, row_pointer, gate_pointer, order_pointer, offset_pointer, grad_row_pointer, grad_gate_pointer,
    rows, dim, experts,
    grad_stride, grad_dim_stride, row_stride, row_dim_stride,
    CHOICES: tl.constexpr, BLOCK_ROW: tl.constexpr, BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """grad_row[r] = gate · grad[token of r], grad_gate[choice of r] = <row[r], grad[token of r]>: of the combine.

    grad: [tokens, dim]; row, grad_row: [rows, dim]; gate, grad_gate: [tokens, CHOICES], contiguous, grad_gate float32.
    Dropped choices get 0. One program owns a block of rows and walks the dims.
    """
    members = tl.cast(tl.program_id(0), tl.int64) * BLOCK_ROW + tl.arange(0, BLOCK_ROW)
    inside = members < rows
    kept = members < tl.load(offset_pointer + experts)
    choice = tl.load(order_pointer + members, mask=inside, other=0)
    token = choice // CHOICES
    gate = tl.load(gate_pointer + choice, mask=kept, other=0.0).to(tl.float32)
    total = tl.zeros([BLOCK_ROW], tl.float32)
    for start in range(0, dim, BLOCK_DIM):
        dims = start + tl.arange(0, BLOCK_DIM)
        known = (dims < dim)[None, :]
        grad_rows = rows_of(grad_pointer, 0, token, grad_stride, dims, grad_dim_stride)
        grad = tl.load(grad_rows, mask=kept[:, None] & known, other=0.0).to(tl.float32)
        row_rows = rows_of(row_pointer, 0, members, row_stride, dims, row_dim_stride)
        row = tl.load(row_rows, mask=kept[:, None] & known, other=0.0).to(tl.float32)
        total += tl.sum(grad * row, 1)
        grad_row_rows = rows_of(grad_row_pointer, 0, members, dim, dims, 1)
        tl.store(grad_row_rows, grad * gate[:, None], mask=inside[:, None] & known)
    tl.store(grad_gate_pointer + choice, total, mask=inside)


def launch_combine(rows, gates, place):
    """[tokens, dim] from rows: [rows, dim], gates: [tokens, choices] or None for ones, and place: [tokens, choices]."""
    runtime.require_kernels(rows.dtype)
    (tokens, choices), dim = place.shape, rows.shape[1]
    output = torch.empty(tokens, dim, dtype=rows.dtype, device=rows.device)
    dim_tiles = triton.cdiv(dim, BLOCK_DIM)
    if output.numel():
        combine_kernel[(triton.cdiv(tokens, BLOCK_TOKEN) * dim_tiles,)](
            rows, rows if gates is None else gates.contiguous(), place, output,
            tokens, dim, dim_tiles,
            *rows.stride(),
            CHOICES=choices, WEIGHTED=gates is not None, BLOCK_TOKEN=BLOCK_TOKEN, BLOCK_DIM=BLOCK_DIM, num_warps=WARPS,
        )  # fmt: skip
    return output


def launch_expand(grad, rows, gates, order, offsets):
    """(grad_rows [rows, dim], grad_gates float32 [tokens, choices]) of grad: [tokens, dim]."""
    runtime.require_kernels(rows.dtype)
    count, dim = rows.shape
    grad_rows = torch.empty(count, dim, dtype=rows.dtype, device=rows.device)
    grad_gates = torch.empty(gates.shape, dtype=torch.float32, device=rows.device)
    if count:
        expand_kernel[(triton.cdiv(count, BLOCK_TOKEN),)](
            grad, rows, gates.contiguous(), order, offsets, grad_rows, grad_gates,
            count, dim, len(offsets) - 2,
            *grad.stride(), *rows.stride(),
            CHOICES=gates.shape[1], BLOCK_ROW=BLOCK_TOKEN, BLOCK_DIM=BLOCK_DIM, num_warps=WARPS,
        )  # fmt: skip
    return grad_rows, grad_gates
