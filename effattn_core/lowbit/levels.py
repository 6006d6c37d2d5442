"""The levels that codes stand for: tables in float64, with the scale of a block taken out.

A table is increasing; its last entry is 1, the scale itself. Sources: the dynamic-exponent map is that of bitsandbytes
(Dettmers et al. 2022), as SOLO's released code takes it; the logarithmic levels are SOLO's (arXiv 2505.00347).
"""

import torch

BITS = (2, 3, 4, 8)
WHOLE = 32  # bits of a state that is kept in float32, without levels
# kind -> whether a table of it has a level of exactly zero, for signed values and for unsigned ones.
ZERO = {"exponent": (True, True), "linear": (False, False), "linear_zero": (True, True)}
TABLES = tuple(ZERO)


def require_bits(bits: int) -> None:
    """Raise ValueError unless `bits` is one of BITS."""
    if bits not in BITS or isinstance(bits, bool):
        raise ValueError(f"bits must be one of {', '.join(map(str, BITS))}; it is {bits!r}.")


def levels(kind: str, bits: int, *, signed: bool) -> torch.Tensor:
    """The table of a kind in TABLES, float64 [2**bits], increasing, in [-1, 1] or (unsigned) [0, 1].

    "exponent": `exponent_levels`. "linear": equal steps without a zero, from -1 to 1 or from 2**-bits to 1.
    "linear_zero": equal steps with a zero, from 0 to 1; signed, -1 + 2k / 2**bits for k = 1 to 2**bits, so that 0 and 1
    are levels and -1 is none. Raises ValueError for another kind or number of bits.
    """
    require_bits(bits)
    if kind not in TABLES:
        raise ValueError(f"kind must be one of {', '.join(TABLES)}; it is {kind!r}.")
    if kind == "exponent":
        return exponent_levels(bits, signed=signed)
    count, double = 2**bits, torch.float64
    if kind == "linear":
        return torch.linspace(-1 if signed else 1 / count, 1, count, dtype=double)
    if signed:
        return torch.arange(1, count + 1, dtype=double) * 2 / count - 1
    return torch.linspace(0, 1, count, dtype=double)


def exponent_levels(bits: int, *, signed: bool) -> torch.Tensor:
    """The dynamic-exponent table, float64 [2**bits] (eq. lowbit-exponent): a decade per exponent, halved ever finer.

    For i = 0 to bits - 2: the midpoints between n + 1 equal steps of [0.1, 1], n = 2**i (signed) or 2**(i + 1), times
    10**(i - bits + 2); signed adds their negatives; 0 and 1 are added last. So +1 is a level and -1 is none.
    """
    require_bits(bits)
    found = [torch.tensor([0.0, 1.0], dtype=torch.float64)]
    for exponent in range(bits - 1):
        edges = torch.linspace(0.1, 1, 2 ** (exponent + (not signed)) + 1, dtype=torch.float64)
        fractions = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (exponent - bits + 2)
        found += [fractions, -fractions] if signed else [fractions]
    return torch.cat(found).sort().values


def midpoints(table: torch.Tensor) -> torch.Tensor:
    """Where the nearest level changes: the middles between neighbours, [levels - 1], in the table's dtype."""
    return (table[:-1] + table[1:]) / 2


def logarithmic_levels(slope: float, bits: int) -> torch.Tensor:
    """SOLO's levels of a block, float64 [2**bits], decreasing: 2**(k · slope), k = 0 to 2**bits - 1 (eq. lowbit-log).

    slope: log2(alpha), at most 0. Level 0 is the block's largest value; the last is its quantile.
    """
    require_bits(bits)
    if not slope <= 0:
        raise ValueError(f"slope must be log2(alpha), at most 0; it is {slope!r}.")
    return torch.exp2(torch.arange(2**bits, dtype=torch.float64) * slope)
