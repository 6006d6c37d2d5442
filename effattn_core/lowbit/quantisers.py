"""Block-wise quantisers: numbers to codes, a scale per block, and for logarithmic levels a slope; and back.

A tensor is flattened and cut into blocks of consecutive elements; the last block may be short. All arithmetic is
float32, in one order of separate operations, so that the fused kernel can do the same bit for bit.
"""

from dataclasses import dataclass

import torch

from effattn_core.calls import require_count
from effattn_core.lowbit import philox
from effattn_core.lowbit.levels import TABLES, ZERO, levels, midpoints, require_bits
from effattn_core.lowbit.packing import pack, packed_bytes, unpack

BLOCK, QUANTILE = 128, 0.1
SMALLEST = 1e-30  # a block of second moments below it is stored as zeros
FLOOR = 1e-7  # the least share of the scale that a logarithmic level stands for
LOGARITHMIC = ("logarithmic", "logarithmic_unbiased")
KINDS = (*TABLES, *LOGARITHMIC)


@dataclass(frozen=True)
class Quantiser:
    """How one state is stored. kind: one of KINDS; bits: 2, 3, 4 or 8; signed: whether values may be negative.

    block: elements per scale, a multiple of 8. quantile: which of a block's elements is the lowest logarithmic level.
    stochastic: whether a table rounds at random, in the mean to the value itself, or to the nearest level, a tie up;
    logarithmic levels always round at random: "logarithmic" in the mean to the value's logarithm, as SOLO was released,
    "logarithmic_unbiased" to the value. signed_extreme: the scale keeps the sign of the block's largest element, which
    is then stored without loss (signed tables with a 1 and no -1 lose up to 45 % of a negative one).
    Raises ValueError for what does not fit together.
    """

    kind: str
    bits: int
    signed: bool
    block: int = BLOCK
    quantile: float = QUANTILE
    stochastic: bool = False
    signed_extreme: bool = False

    def __post_init__(self):
        require_bits(self.bits)
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; it is {self.kind!r}.")
        require_count("block", self.block, 8)
        if self.block % 8:
            raise ValueError(f"block must be a multiple of 8, so that it begins at a byte; it is {self.block}.")
        if self.logarithmic and self.signed:
            raise ValueError("logarithmic levels are all above 0: a signed state needs a table.")
        if self.signed_extreme and not self.signed:
            raise ValueError("signed_extreme is for signed states; this one has no negative values.")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must lie between 0 and 1; it is {self.quantile!r}.")

    @property
    def logarithmic(self):
        """Whether the levels are those of a block, with a slope stored beside its scale."""
        return self.kind in LOGARITHMIC

    @property
    def random(self):
        """Whether rounding draws numbers."""
        return self.logarithmic or self.stochastic

    @property
    def has_zero(self):
        """Whether a block that is not all zeros can store a zero."""
        return not self.logarithmic and ZERO[self.kind][0 if self.signed else 1]

    def blocks(self, count: int) -> int:
        """Blocks of `count` elements."""
        return -(-count // self.block)

    def state_bytes(self, count: int) -> int:
        """Bytes that `count` elements take: codes, and four per scale and per slope."""
        return packed_bytes(count, self.bits) + 4 * self.blocks(count) * (1 + self.logarithmic)

    def to_codes(self, rows, counts, uniforms=None):
        """(codes uint8 [rows, block], scale [rows], slope [rows] or None) of float32 rows (eq. lowbit-quantise).

        counts: int64 [rows], elements of each block; those after them must be 0. uniforms: [rows, block] in [0, 1).
        """
        if self.logarithmic:
            return _to_logarithmic(rows, counts, uniforms, self)
        scale = _extreme(rows) if self.signed_extreme else rows.abs().amax(-1)
        if not self.signed:
            scale = torch.where(scale < SMALLEST, 0.0, scale)
        share = rows / torch.where(scale != 0, scale, 1.0)[:, None]
        if self.stochastic:
            codes = _drawn(share, self._table(rows), uniforms)
        else:
            codes = _nearest(share, self._middles(rows))
        if not self.signed:
            codes = torch.where(scale[:, None] > 0, codes, 0)
        return codes.to(torch.uint8), scale, None

    def to_values(self, codes, scale, slope=None):
        """float32 [rows, block] that codes [rows, block] stand for (eq. lowbit-dequantise)."""
        if self.logarithmic:
            return scale[:, None] * torch.exp2(codes.float() * slope[:, None])
        return self._table(scale)[codes.long()] * scale[:, None]

    def _table(self, like):
        return levels(self.kind, self.bits, signed=self.signed).float().to(like.device)

    def _middles(self, like):
        return midpoints(levels(self.kind, self.bits, signed=self.signed)).float().to(like.device)


@dataclass(frozen=True)
class Quantised:
    """A tensor as it is kept. codes: uint8, packed; scale, slope: float32 [blocks], slope None for a table."""

    codes: torch.Tensor
    scale: torch.Tensor
    slope: torch.Tensor | None
    shape: torch.Size
    quantiser: Quantiser

    @property
    def nbytes(self):
        """Bytes of all that is kept."""
        return sum(each.nbytes for each in (self.codes, self.scale, self.slope) if each is not None)


def quantise(values: torch.Tensor, quantiser: Quantiser, *, seed: int = 0, first: int = 0) -> Quantised:
    """A tensor of any shape, kept by `quantiser`.

    seed, first: where random rounding draws from: a seed, and the first element's place among all elements.
    Raises ValueError for values that are not floating, not finite, or negative where the quantiser is unsigned.
    """
    philox.require_seed(seed)
    require_count("first", first, 0)
    if not values.is_floating_point():
        raise ValueError(f"values must be floating; got {values.dtype}.")
    if not values.isfinite().all():
        raise ValueError("values must be finite; some are NaN or infinite.")
    if not quantiser.signed and (values < 0).any():
        raise ValueError(f"an unsigned quantiser takes no negative values; the smallest is {values.min().item():g}.")
    rows, counts = to_rows(values.float(), quantiser.block)
    drawn = None
    if quantiser.random:
        drawn = philox.uniforms(seed, first, rows.numel()).view_as(rows)
    codes, scale, slope = quantiser.to_codes(rows, counts, drawn)
    packed = pack(codes.reshape(-1)[: values.numel()], quantiser.bits)
    return Quantised(packed, scale, slope, values.shape, quantiser)


def dequantise(kept: Quantised) -> torch.Tensor:
    """The float32 values that are kept, in the tensor's shape."""
    count = kept.shape.numel()
    codes = unpack(kept.codes, kept.quantiser.bits, count)
    rows, _ = to_rows(codes, kept.quantiser.block)
    return kept.quantiser.to_values(rows, kept.scale, kept.slope).reshape(-1)[:count].view(kept.shape)


def to_rows(values: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows [blocks, block] of the flattened tensor, zeros after its end; elements of each row, int64 [blocks])."""
    flat = values.reshape(-1)
    rows = torch.nn.functional.pad(flat, (0, -flat.numel() % block)).view(-1, block)
    counts = torch.full((len(rows),), block, device=flat.device)
    if len(rows):
        counts[-1] = flat.numel() - (len(rows) - 1) * block
    return rows, counts


def _extreme(rows):
    """The element of largest magnitude of each row, with its sign; the first of equals."""
    return rows.gather(1, rows.abs().argmax(1, keepdim=True))[:, 0]


def _nearest(share, middles):
    """Codes of the nearest level, a tie up: how many of the middles between levels are at most the share."""
    if len(middles) > 15:
        return torch.bucketize(share, middles, right=True)
    codes = torch.zeros_like(share, dtype=torch.uint8)
    for middle in middles:  # a few comparisons are quicker than a search
        codes += share >= middle
    return codes


def _drawn(share, table, uniforms):
    """Codes of the level below or above, above with the share's fraction of the way (eq. lowbit-stochastic)."""
    below = (torch.bucketize(share, table, right=True) - 1).clamp(0, len(table) - 2)
    low, high = table[below], table[below + 1]
    return below + (uniforms < (share - low) / (high - low))


def _to_logarithmic(rows, counts, uniforms, quantiser):
    """Codes k = 0 to 2**bits - 1 for the levels D · alpha**k, stochastically rounded (eq. lowbit-log)."""
    last = 2**quantiser.bits - 1
    scale = rows.amax(-1)
    scale = torch.where(scale < SMALLEST, 0.0, scale)
    live = scale > 0
    share = (rows / torch.where(live, scale, 1.0)[:, None]).clamp_min(FLOOR)
    slope = torch.where(live, torch.log2(low_quantile(share, counts, quantiser.quantile)) / last, 0.0)
    sloped = (slope < 0)[:, None]
    place = torch.where(sloped, torch.log2(share) / torch.where(sloped, slope[:, None], -1.0), 0.0).clamp(0, last)
    if quantiser.kind == "logarithmic":
        codes = (place + uniforms).floor().clamp_max(last)
    else:
        upper = place.floor().clamp_max(last - 1)
        high, low = (torch.exp2((upper + more) * slope[:, None]) for more in (0.0, 1.0))
        codes = torch.where(sloped, upper + (uniforms * (high - low) < high - share), 0.0)
    return torch.where(live[:, None], codes, 0.0).to(torch.uint8), scale, slope


def low_quantile(rows: torch.Tensor, counts: torch.Tensor, quantile: float) -> torch.Tensor:
    """The quantile of each row's first `counts` elements, by the linear rule of `torch.quantile`: float32 [rows].

    At place quantile · (count - 1), counted from 0 in rising order: the element below it, and its share of the gap.
    """
    block = rows.shape[-1]
    inside = torch.arange(block, device=rows.device) < counts[:, None]
    place = quantile * (counts - 1).double()
    lower = place.floor()
    weight = (place - lower).float()
    most = min(block, int(quantile * (block - 1)) + 2)
    smallest = torch.where(inside, rows, torch.inf).topk(most, -1, largest=False).values
    at = lower.long()[:, None]
    low = smallest.gather(1, at)[:, 0]
    high = smallest.gather(1, torch.minimum(at + 1, counts[:, None] - 1))[:, 0]
    return low + weight * (high - low)
