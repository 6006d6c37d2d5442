"""How much is left between two tokens of a chunk: the device functions that every recurrence kernel shares.

G is the running sum of log gates from the chunk's first token on, base 2. Between tokens n and m, in either order,
`exp2(-abs(G_n - G_m))` is left: gates are at most 0, so no exponent here is above 0.
"""

import triton
import triton.language as tl

from kernels.recurrences.configurations import STRONGEST
from kernels.tiles import LOG2_E, rows_of


@triton.jit
def fading(
    gate_pointer,
    first, there,
    time_stride, dim_stride,
    dims,
    CHUNK: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """(G, entering, leaving, kept) of one chunk and a tile of key dimensions.

    entering: left at token n of the state before the chunk; leaving: left of token n at the chunk's end; both
    [CHUNK, dims] or, for one gate per head, [CHUNK, 1], as is G. kept: left of the state when the chunk has passed,
    [dims, 1] or a scalar. Tokens past the end have no gate: they let nothing fade.
    """
    rows = tl.arange(0, CHUNK)
    if VECTOR:
        places = rows_of(gate_pointer, first, rows, time_stride, dims, dim_stride)
        gate = tl.load(places, mask=there[:, None], other=0.0).to(tl.float32) * LOG2_E
    else:
        places = gate_pointer + (tl.cast(first, tl.int64) + rows) * time_stride
        gate = tl.load(places, mask=there, other=0.0).to(tl.float32) * LOG2_E
    gate = tl.where(gate < STRONGEST, STRONGEST, gate)
    total = tl.cumsum(gate, 0)
    # Summed from the chunk's end, not as G at the end less G: tokens near the end, which weigh most, lose nothing.
    leaving = tl.exp2(tl.cumsum(gate, 0, reverse=True) - gate)
    kept = tl.exp2(tl.sum(gate, 0))
    if VECTOR:
        return total, tl.exp2(total), leaving, kept[:, None]
    else:
        return total[:, None], tl.exp2(total)[:, None], leaving[:, None], kept


@triton.jit
def between(total, CHUNK: tl.constexpr, REVERSE: tl.constexpr):
    """What is left between the row's token and every one up to it (REVERSE: from it on), 0 for the others.

    For one gate per head: [CHUNK, CHUNK] from G: [CHUNK, 1].
    """
    rows, columns = tl.arange(0, CHUNK)[:, None], tl.arange(0, CHUNK)[None, :]
    seen = (rows <= columns) if REVERSE else (rows >= columns)
    return tl.where(seen, tl.exp2(-tl.abs(total - tl.trans(total))), 0.0)


@triton.jit
def halves(total, level, CHUNK: tl.constexpr):
    """(late, early, together) for blocks of 2 · 2^level tokens, cut in their middles.

    late: what is left at a second-half token of what stood at the middle; early: what is left at the middle of a
    first-half token; both [CHUNK, dims], at most 1, and 0 for the other half. together: which pairs share a block.
    A pair of tokens meets in the middle of exactly one block: at the level of the highest bit that tells them apart.
    """
    rows = tl.arange(0, CHUNK)
    block = rows >> level + 1
    middle = (block << level + 1) + (1 << level) - 1
    at_middle = tl.gather(total, tl.broadcast_to(middle[:, None], total.shape), 0)
    fade = tl.exp2(-tl.abs(total - at_middle))
    second = (rows > middle)[:, None]
    return tl.where(second, fade, 0.0), tl.where(second, 0.0, fade), block[:, None] == block[None, :]
