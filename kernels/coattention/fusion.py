"""Bilinear fusion: questions ask regions by w · (x ∘ c), divided by ‖x ∘ c‖ or not; no product of the two is stored."""

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.tiles import LOG2_E, program_of, rows_of

VALUE_DIMS = (32, 64, 128)
BLOCK_ASK, BLOCK_REGION, WARPS = 16, 32, 4
BLOCKS_HIDDEN = {32: 32, 64: 16, 128: 16}  # by value_dim: those that compile without a spill


@triton.jit
def fusion_kernel(
    region_pointer, context_pointer, weight_pointer, value_pointer, output_pointer, log_sum_exp_pointer,
    glimpses, asks, regions, hidden,
    region_batch_stride, region_stride, region_hidden_stride,
    context_batch_stride, context_stride, context_hidden_stride,
    weight_stride, weight_hidden_stride,
    value_batch_stride, value_stride, value_dim_stride,
    NORMALISED: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_ASK: tl.constexpr, BLOCK_REGION: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """score = (w ∘ c) · x / √((c ∘ c) · (x ∘ x)), output = softmax(score) value     (eq. coattention-two)

    output: [batch, glimpses, asks, VALUE_DIM] and log_sum_exp, float32: [batch, glimpses, asks], contiguous, written in
    full. One program owns BLOCK_ASK questions of one glimpse of one batch item; a score of a product 0 is 0.
    """
    tile, row = program_of(tl.cdiv(asks, BLOCK_ASK))
    batch, glimpse = tl.cast(row // glimpses, tl.int64), tl.cast(row % glimpses, tl.int64)
    ask, block, dims = tl.arange(0, BLOCK_ASK), tl.arange(0, BLOCK_REGION), tl.arange(0, VALUE_DIM)
    part = tl.arange(0, BLOCK_HIDDEN)
    there = tile * BLOCK_ASK + ask < asks
    region_pointer += batch * region_batch_stride
    context_pointer += batch * context_batch_stride
    value_pointer += batch * value_batch_stride
    weight_pointer += glimpse * weight_stride
    maximum = tl.full([BLOCK_ASK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_ASK], tl.float32)
    accumulator = tl.zeros([BLOCK_ASK, VALUE_DIM], tl.float32)
    for start in range(0, regions, BLOCK_REGION):
        inside = start + block < regions
        above = tl.zeros([BLOCK_ASK, BLOCK_REGION], tl.float32)
        below = tl.zeros([BLOCK_ASK, BLOCK_REGION], tl.float32)
        for first in range(0, hidden, BLOCK_HIDDEN):
            known = first + part < hidden
            contexts = rows_of(context_pointer, tile * BLOCK_ASK, ask, context_stride, first + part,
                               context_hidden_stride)  # fmt: skip
            seen = rows_of(region_pointer, start, block, region_stride, first + part, region_hidden_stride)
            context = tl.load(contexts, mask=there[:, None] & known[None, :], other=0.0).to(tl.float32)
            region = tl.load(seen, mask=inside[:, None] & known[None, :], other=0.0).to(tl.float32)
            if NORMALISED:
                below = tl.dot(context * context, tl.trans(region * region), below, input_precision=PRECISION)
            at = weight_pointer + tl.cast(first + part, tl.int64) * weight_hidden_stride
            weight = tl.load(at, mask=known, other=0.0).to(tl.float32)
            above = tl.dot(context * weight[None, :], tl.trans(region), above, input_precision=PRECISION)
        if NORMALISED:
            above = above / tl.sqrt(tl.where(below > 0, below, 1.0))
        score = tl.where(inside[None, :], above * LOG2_E, float("-inf"))
        larger = tl.maximum(maximum, tl.max(score, 1))
        weights, rescale = tl.exp2(score - larger[:, None]), tl.exp2(maximum - larger)
        rows = rows_of(value_pointer, start, block, value_stride, dims, value_dim_stride)
        value = tl.load(rows, mask=inside[:, None], other=0.0).to(tl.float32)
        total = total * rescale + tl.sum(weights, 1)
        accumulator = tl.dot(weights, value, accumulator * rescale[:, None], input_precision=PRECISION)
        maximum = larger
    place = tl.cast(row, tl.int64) * asks
    rows = rows_of(output_pointer + place * VALUE_DIM, tile * BLOCK_ASK, ask, VALUE_DIM, dims, 1)
    tl.store(rows, (accumulator / total[:, None]).to(output_pointer.dtype.element_ty), mask=there[:, None])
    found = (maximum + tl.log2(total)) / LOG2_E
    tl.store(log_sum_exp_pointer + place + tile * BLOCK_ASK + ask, found, mask=there)


def launch_fusion(region, context, weight, value, normalised):
    """(output [batch, glimpses, asks, value_dim], log_sum_exp) by one launch.

    region: [batch, regions, hidden], at least one region; context: [batch, asks, hidden]; weight: [glimpses, hidden];
    value: [batch, regions, value_dim], value_dim among VALUE_DIMS. Any strides. Raises ValueError for other sizes.
    """
    runtime.require_kernels(region.dtype)
    batch, asks, hidden = context.shape
    regions, value_dim, glimpses = region.shape[1], value.shape[2], len(weight)
    if value_dim not in VALUE_DIMS or not regions:
        raise ValueError(f"value_dim is one of {VALUE_DIMS} and a region is there; got {value_dim} and {regions}.")
    output = torch.empty(batch, glimpses, asks, value_dim, dtype=value.dtype, device=value.device)
    log_sum_exp = torch.empty(batch, glimpses, asks, dtype=torch.float32, device=value.device)
    programs = batch * glimpses * triton.cdiv(asks, BLOCK_ASK)
    if programs:
        fusion_kernel[(programs,)](
            region, context, weight, value, output, log_sum_exp,
            glimpses, asks, regions, hidden,
            *region.stride(), *context.stride(), *weight.stride(), *value.stride(),
            NORMALISED=normalised, VALUE_DIM=value_dim, BLOCK_ASK=BLOCK_ASK, BLOCK_REGION=BLOCK_REGION,
            BLOCK_HIDDEN=BLOCKS_HIDDEN[value_dim], PRECISION="tf32x3", num_warps=WARPS, num_stages=1,
        )  # fmt: skip
    return output, log_sum_exp
