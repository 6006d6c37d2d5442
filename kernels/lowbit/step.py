"""One pass of AdamW over packed states: read them, step, requantise and pack, before anything goes back to memory."""

import math

import torch
import triton
import triton.language as tl

from kernels.lowbit.configurations import BLOCK, DYNAMIC, ROWS, WARPS, midpoints, require
from kernels.tiles import rows_of

LOUDEST = tl.constexpr(1.8e19)  # a gradient's size: beyond it the square is no float32
LEAST = tl.constexpr(1e-7)  # of a block's largest: v is not told apart below
SILENT = tl.constexpr(1e-30)  # a block whose largest v is below counts as zero
BEYOND = tl.constexpr(3.0e38)  # stands for elements that are not there: larger than any


@triton.jit
def unpack(packed, BITS: tl.constexpr):
    """Codes, int32 [rows, 128], of uint8 [rows, 16 · BITS]: the first element lies in a byte's highest bits."""
    packed = packed.to(tl.int32)
    nibbles = tl.interleave(packed >> 4, packed & 15)
    if BITS == 4:
        return nibbles
    else:
        return tl.interleave(nibbles >> 2, nibbles & 3)


@triton.jit
def pairs(codes, SHIFT: tl.constexpr):
    """Neighbours put together, the first in the higher bits: [rows, n] to [rows, n / 2]."""
    first, second = tl.split(tl.reshape(codes, [codes.shape[0], codes.shape[1] // 2, 2]))
    return (first << SHIFT) | second


@triton.jit
def pack(codes, BITS: tl.constexpr):
    """The inverse of `unpack`."""
    if BITS == 2:
        codes = pairs(codes, 2)
    return pairs(codes, 4).to(tl.uint8)


@triton.jit
def words_of(seed, counter):
    """32 random bits per element, uint32 [rows, 4 · n], of counters [rows, n]: Philox makes four words at a time."""
    first, second, third, fourth = tl.randint4x(seed, counter)
    return tl.interleave(tl.interleave(first, third), tl.interleave(second, fourth))


@triton.jit
def nearest(ratio, MIDPOINTS: tl.constexpr):
    """Codes of the levels nearest to ratio, in [-1, 1]; MIDPOINTS: those above 0, the last of which has no negative.

    A value on a midpoint takes the upper level, which for a negative one is the smaller: one bit less decides so.
    """
    ZERO: tl.constexpr = len(MIDPOINTS) - 1
    negative = ratio < 0
    size = (tl.abs(ratio).to(tl.int32, bitcast=True) - negative.to(tl.int32)).to(tl.float32, bitcast=True)
    steps = tl.zeros(ratio.shape, tl.int32)
    for place in tl.static_range(ZERO):
        steps = tl.where(size >= MIDPOINTS[place], place + 1, steps)
    steps = tl.where(ratio >= MIDPOINTS[ZERO], ZERO + 1, steps)
    return ZERO + tl.where(negative, -steps, steps)


@triton.jit
def level_of(code, LEVELS: tl.constexpr):
    """The level of each code; LEVELS: those from 0 on, the last of which has no negative.

    A chain of selections: a table in memory would be read once per element.
    """
    ZERO: tl.constexpr = len(LEVELS) - 2
    steps = tl.abs(code - ZERO)
    level = tl.zeros(code.shape, tl.float32)
    for place in tl.static_range(1, len(LEVELS)):
        level = tl.where(steps >= place, LEVELS[place], level)
    return tl.where(code < ZERO, -level, level)


@triton.jit
def quantile(ratio, rank, weight):
    """x_(rank) + weight · (x_(rank+1) − x_(rank)) of each row, counted from 0; ratio: float32, LEAST … 1 or BEYOND.

    Floats of one sign are ordered as the integers of their bits, so x_(rank) is found by halving where it can lie:
    `smaller` elements lie before the end of that stretch, which is short enough when they are rank + 1. LEAST and 1
    are less than 2^28 apart, so that 28 halvings are the most; fewer do where no two elements are nearly equal.
    """
    order = ratio.to(tl.int32, bitcast=True) - 0x33D6BF95  # the bits of LEAST
    begin, size = tl.zeros([ratio.shape[0]], tl.int32), 1 << 28
    smaller = tl.full([ratio.shape[0]], ratio.shape[1], tl.int32)
    while (size > 1) & (tl.max(tl.abs(smaller - rank - 1), 0) > 0):
        size = size // 2
        half = tl.sum((order < (begin + size)[:, None]).to(tl.int32), 1)
        beyond = half <= rank
        begin, smaller = tl.where(beyond, begin + size, begin), tl.where(beyond, smaller, half)
    before = order < (begin + size)[:, None]
    low = tl.max(tl.where(before, ratio, LEAST), 1)
    high = tl.where(smaller > rank + 1, low, tl.min(tl.where(before, BEYOND, ratio), 1))
    return low + weight * (high - low)


@triton.jit
def rounded(parameter, words):
    """float32 whose low 16 bits are 0, a bfloat16: up or down with the chances that keep the mean, never up to inf."""
    bits = parameter.to(tl.int32, bitcast=True)
    drawn = (bits + (words & 0xFFFF).to(tl.int32)) & -65536
    finite = tl.abs(drawn.to(tl.float32, bitcast=True)) < float("inf")
    drawn = tl.where(finite, drawn, bits & -65536).to(tl.float32, bitcast=True)
    return tl.where(tl.abs(parameter) < float("inf"), drawn, parameter)


@triton.jit(do_not_specialize=["seed_v", "seed_parameter", "base", "rank", "last_rank"])
def lowbit_step_kernel(
    parameter_pointer, gradient_pointer,
    m_code_pointer, m_scale_pointer, v_code_pointer, v_scale_pointer, v_slope_pointer,
    count, blocks,
    seed_v, seed_parameter, base, rank, last_rank,
    weight, last_weight, decay, rate, root, eps, fresh_m, fresh_v,
    M_BITS: tl.constexpr, V_BITS: tl.constexpr, LEVELS: tl.constexpr, MIDPOINTS: tl.constexpr,
    UNBIASED: tl.constexpr, STOCHASTIC: tl.constexpr, SIGNED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of AdamW whose moments lie in memory as codes of M_BITS and V_BITS     (eq. lowbit-step)

    parameter, gradient: [count], contiguous. m_code, v_code: uint8, BLOCK · bits / 8 bytes per block, the last block
    ragged; m_scale, v_scale, v_slope: float32 [blocks]. All but the gradient are read and written in place. One program
    owns ROWS blocks of BLOCK elements, a row each, whose numbers it alone touches.
    """
    row = tl.cast(tl.program_id(0), tl.int64) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, BLOCK)
    there = row < blocks
    place = row[:, None] * BLOCK + lane[None, :]
    inside = place < count

    parameter_rows = rows_of(parameter_pointer, 0, row, BLOCK, lane, 1)
    parameter = tl.load(parameter_rows, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(rows_of(gradient_pointer, 0, row, BLOCK, lane, 1), mask=inside, other=0.0).to(tl.float32)
    gradient = tl.where(tl.abs(gradient) < LOUDEST, gradient, 0.0)  # nan too: comparing with it is false

    m_byte, v_byte = tl.arange(0, BLOCK * M_BITS // 8), tl.arange(0, BLOCK * V_BITS // 8)
    m_rows = rows_of(m_code_pointer, 0, row, BLOCK * M_BITS // 8, m_byte, 1)
    v_rows = rows_of(v_code_pointer, 0, row, BLOCK * V_BITS // 8, v_byte, 1)
    m_held = row[:, None] * BLOCK + m_byte[None, :] * (8 // M_BITS) < count
    v_held = row[:, None] * BLOCK + v_byte[None, :] * (8 // V_BITS) < count
    m_code = unpack(tl.load(m_rows, mask=m_held, other=0), M_BITS)
    v_code = unpack(tl.load(v_rows, mask=v_held, other=0), V_BITS)
    m_scale = tl.load(m_scale_pointer + row, mask=there, other=0.0)
    v_scale = tl.load(v_scale_pointer + row, mask=there, other=0.0)
    slope = tl.load(v_slope_pointer + row, mask=there, other=0.0)
    m = level_of(m_code, LEVELS) * m_scale[:, None]
    v = v_scale[:, None] * tl.exp2(v_code.to(tl.float32) * slope[:, None])

    m = tl.where(inside, m + fresh_m * (gradient - m), 0.0)
    v = tl.where(inside, v + fresh_v * (gradient * gradient - v), 0.0)
    parameter = parameter * decay - rate * (m / (tl.sqrt(v) / root + eps))
    counter = (base + row[:, None] * BLOCK) // 4 + tl.arange(0, BLOCK // 4)[None, :]
    if STOCHASTIC:
        parameter = rounded(parameter, words_of(seed_parameter, counter))
    tl.store(parameter_rows, parameter, mask=inside)

    m_scale = tl.max(tl.abs(m), 1)
    if SIGNED:  # the scale is the largest element itself, the first of equals, with its sign: it is kept exactly
        largest = tl.min(tl.where(tl.abs(m) == m_scale[:, None], lane[None, :], BLOCK), 1)
        m_scale = tl.sum(tl.where(lane[None, :] == largest[:, None], m, 0.0), 1)
    m_code = nearest(m / tl.where(m_scale == 0.0, 1.0, m_scale)[:, None], MIDPOINTS)
    m_code = tl.where(inside, m_code, 0)
    tl.store(m_rows, pack(m_code, M_BITS), mask=m_held)
    tl.store(m_scale_pointer + row, m_scale, mask=there)

    # Logarithmic levels from the largest down to the quantile: D · alpha^k, alpha = 2^slope.
    v_scale = tl.max(v, 1)
    loud = v_scale >= SILENT
    ratio = tl.maximum(v / tl.where(loud, v_scale, 1.0)[:, None], LEAST)
    last = row == blocks - 1
    rank, weight = tl.where(last, last_rank, rank), tl.where(last, last_weight, weight)
    least = quantile(tl.where(inside, ratio, BEYOND), rank, weight)
    top: tl.constexpr = 2**V_BITS - 1
    slope = tl.where(loud, tl.log2(least) / top, 0.0)
    steps = tl.log2(ratio) / tl.where(slope < 0.0, slope, -1.0)[:, None]
    steps = tl.where((slope < 0.0)[:, None], tl.minimum(tl.maximum(steps, 0.0), top), 0.0)
    uniform = tl.uint_to_uniform_float(words_of(seed_v, counter))
    if UNBIASED:
        low = tl.minimum(tl.floor(steps), top - 1)
        above, below = tl.exp2(low * slope[:, None]), tl.exp2((low + 1) * slope[:, None])
        v_code = low.to(tl.int32) + (uniform * (above - below) < above - ratio).to(tl.int32)
    else:
        v_code = tl.minimum(tl.floor(steps + uniform), top).to(tl.int32)
    v_code = tl.where(inside & loud[:, None], v_code, 0)
    tl.store(v_rows, pack(v_code, V_BITS), mask=v_held)
    tl.store(v_scale_pointer + row, tl.where(loud, v_scale, 0.0), mask=there)
    tl.store(v_slope_pointer + row, slope, mask=there)


def quantile_place(count, share):
    """(rank, weight) of the quantile `share` of `count` numbers, by linear interpolation as torch.quantile has it."""
    position = share * (count - 1)
    return math.floor(position), position - math.floor(position)


def launch_step(
    parameter, gradient, m_codes, m_scale, v_codes, v_scale, v_slope,
    *, seed_v, seed_parameter=0, base=0, lr, betas, eps, weight_decay, step, bits=(4, 2), share=0.1, unbiased=False,
    stochastic=False, signed_extreme=False, rows=ROWS,
):  # fmt: skip
    """One step, in place, of a contiguous parameter; states as `effattn_core.lowbit` packs them.

    seed_v, seed_parameter: below 2^63, of this step and parameter; base: the global number of the first element, a
    multiple of 4; step: counted from 1; share: the quantile that the lowest level stands at.
    """
    require(parameter.dtype, *bits)
    count, (beta1, beta2) = parameter.numel(), betas
    if base % 4:
        raise ValueError(f"base must be a multiple of 4, for four elements share a random number; it is {base}.")
    if not parameter.is_contiguous() or not gradient.is_contiguous():
        raise ValueError("the fused step takes a contiguous parameter and gradient: the operator makes them so.")
    blocks = triton.cdiv(count, BLOCK)
    rank, weight = quantile_place(BLOCK, share)
    last_rank, last_weight = quantile_place(count - (blocks - 1) * BLOCK, share)
    if count == 0:
        return
    lowbit_step_kernel[(triton.cdiv(blocks, rows),)](
        parameter, gradient, m_codes, m_scale, v_codes, v_scale, v_slope,
        count, blocks,
        seed_v, seed_parameter, base, rank, last_rank,
        weight, last_weight, 1 - lr * weight_decay, lr / (1 - beta1**step), math.sqrt(1 - beta2**step), eps,
        1 - beta1, 1 - beta2,
        M_BITS=bits[0], V_BITS=bits[1], LEVELS=DYNAMIC[bits[0]], MIDPOINTS=midpoints(DYNAMIC[bits[0]]),
        UNBIASED=unbiased, STOCHASTIC=stochastic, SIGNED=signed_extreme, ROWS=rows, BLOCK=BLOCK,
        num_warps=WARPS,
    )  # fmt: skip


def empty_states(count, bits, device="cpu"):
    """(m_codes, m_scale, v_codes, v_scale, v_slope) of a parameter of `count` elements before its first step: zeros."""
    blocks = triton.cdiv(count, BLOCK)
    codes = [torch.zeros(triton.cdiv(count * each, 8), dtype=torch.uint8, device=device) for each in bits]
    scales = [torch.zeros(blocks, device=device) for _ in range(3)]
    return codes[0], scales[0], codes[1], *scales[1:]
