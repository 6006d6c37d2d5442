"""The one table of what the fused step is launched with, and the levels that it knows by heart."""

from kernels import runtime

BLOCK = 128  # elements that share a scale: a row of the kernel's tile
BITS = (2, 4)  # whose codes the kernel packs: a byte holds a whole number of them
# Rows of a tile and warps. One warp owns whole rows: the counts of the quantile stay inside it, without a barrier, and
# four rows are four chains of work. Of the tiles tried for sm_90 (2, 4 and 8 rows by 1, 8 by 4 and by 8 warps) this one
# took the fewest instructions per element in fewer than 128 registers; it compiles without a spill for sm_80 too.
ROWS, WARPS = 4, 1

# Levels of the signed dynamic-exponent map from 0 on (eq. lowbit-exponent); all but 1 have a negative. They are
# constants of the compiled code; `effattn_core.lowbit.levels` derives them.
DYNAMIC = {2: (0.0, 0.55, 1.0), 4: (0.0, 0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875, 1.0)}


def midpoints(levels):
    """Where the nearest level changes: a value on a midpoint takes the upper level."""
    return tuple((low + high) / 2 for low, high in zip(levels, levels[1:], strict=False))


def require(dtype, m_bits, v_bits):
    """Raise RuntimeError where no kernel runs, ValueError for a dtype or bits that the kernel does not take."""
    runtime.require_kernels(dtype)
    if m_bits not in BITS or v_bits not in BITS:
        raise ValueError(f"the fused step takes 2 or 4 bits for each state; got {m_bits} and {v_bits}.")
