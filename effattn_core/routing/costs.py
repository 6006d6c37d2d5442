"""What experts cost: rows computed and dropped, bytes of a layer, the traffic of the kernels, the bill of a model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from effattn_core import costs
from effattn_core.bill import MODEL, Line, Stage
from effattn_core.costs import Traffic

# The experts that the bill prices: as many operations per token as the dense layer, four times its weights.
EXPERTS, TOP_K = 8, 2
INNER = MODEL.feed_forward // TOP_K
# MaxVio of plain top-k and of prices of the past, in the recorded run of the chapter: a small model's, as a test holds.
UNLEVELLED, LEVELLED = 1.81, 0.16


def layer_flops(width: int, inner: int, experts: int, top_k: int, shared: int = 0) -> int:
    """Operations per token of a layer of SwiGLU experts: 6 · (top_k + shared) · width · inner, and the router's."""
    return 6 * (top_k + shared) * width * inner + 2 * width * experts


def layer_parameters(width: int, inner: int, experts: int, shared: int = 0) -> int:
    """Weights of the layer: three matrices per expert, and the router."""
    return 3 * (experts + shared) * width * inner + width * experts


def idle_flops(flops: float, violation: float) -> float:
    """What devices could have computed while they wait, where each expert has one: flops · MaxVio (eq. routing-idle).

    flops: of all experts; violation: the fullest expert's load over an equal share, minus 1.
    """
    return flops * violation


def touched(tokens: int, experts: int, top_k: int) -> float:
    """Experts that a batch reads in the mean if routing is fair: experts · (1 - (1 - top_k / experts) ** tokens)."""
    return experts * (1 - (1 - top_k / experts) ** tokens)


@dataclass(frozen=True)
class Step:
    """One layer of experts over one batch: its operations (flops) and bytes (moved), per_byte the one over the other.

    rows: of an expert, in the mean; touched: experts that are read; computed: rows in tiles over rows asked for.
    """

    rows: float
    touched: float
    computed: float
    flops: float
    moved: float

    @property
    def per_byte(self):
        return self.flops / self.moved


def decode_step(tokens, *, width=MODEL.width, inner=INNER, experts=EXPERTS, top_k=TOP_K, block_row=16, element=2):
    """A Step of SwiGLU experts, fair routing: the matrices of the experts that are read once, each row in and out."""
    used, rows = touched(tokens, experts, top_k), tokens * top_k
    tiles = experts * _expected_tiles(tokens, top_k / experts, block_row)
    flops = 6 * rows * width * inner
    moved = element * (3 * used * width * inner + 2 * rows * width)
    return Step(rows / experts, used, tiles * block_row / rows, flops, moved)


def _expected_tiles(tokens, share, block_row):
    """The mean number of tiles of one expert's rows, if each token takes it with probability `share`."""
    if share == 1:
        return math.ceil(tokens / block_row)
    whole, mean = math.lgamma(tokens + 1), 0.0
    for count in range(1, tokens + 1):
        ways = whole - math.lgamma(count + 1) - math.lgamma(tokens - count + 1)
        chance = math.exp(ways + count * math.log(share) + (tokens - count) * math.log1p(-share))
        mean += chance * math.ceil(count / block_row)
    return mean


def drop_share(experts: int, capacity: float) -> float:
    """The share of choices that a capacity of exactly an equal share drops if routing is fair and random.

    sqrt((1 - 1 / experts) / (2π capacity)) (eq. routing-drops): what a normal law expects above its mean.
    """
    return math.sqrt((1 - 1 / experts) / (2 * math.pi * capacity))


def capacity_rows(load: Sequence[int], capacity: int) -> tuple[int, int]:
    """(rows computed, choices dropped) with buffers of one capacity: all are computed, whatever the loads."""
    return len(load) * capacity, sum(max(0, each - capacity) for each in load)


def tile_rows(load: Sequence[int], block_row: int) -> int:
    """Rows computed without a capacity, where each expert's are rounded up to a tile (eq. routing-tiles)."""
    return sum(-(-each // block_row) * block_row for each in load)


def product_traffic(
    load: Sequence[int], dropped: int, inner: int, columns: int, *, blocks, tiles: int, gathered: bool, element: int = 4
) -> Traffic:
    """Exactly what `grouped_product_kernel` moves (eq. routing-traffic); masked-off lanes are not counted.

    load: rows of each expert; dropped: rows of nobody, stored as zeros; blocks: (row, column, inner); tiles: of rows,
    as launched. A program reads its tile's expert, first row and end; per tile of columns each row is read once, with
    its number where it is gathered, and per tile of rows the expert's matrix once.
    """
    row, column, deep = blocks
    across, live = -(-columns // column), sum(-(-each // row) for each in load)
    needed = live + -(-dropped // row)
    loaded = across * (4 * tiles + 16 * needed) + live * inner * columns * element
    loaded += across * sum(load) * (8 * gathered + inner * element)
    flops = live * across * 2 * row * column * -(-inner // deep) * deep
    return Traffic(loaded, (sum(load) + dropped) * columns * element, flops)


def weights_traffic(
    load: Sequence[int], inner: int, columns: int, *, block_row: int, side: int, gathered: bool, element: int = 4
) -> Traffic:
    """Exactly what `grouped_weights_kernel` moves: rows per tile of columns, gradients per tile of inner."""
    down, across = -(-inner // side), -(-columns // side)
    loaded = len(load) * down * across * 16 + 8 * gathered * sum(load) * down * across
    loaded += sum(load) * element * (inner * across + columns * down)
    flops = sum(-(-each // block_row) for each in load) * block_row * 2 * side * side * down * across
    return Traffic(loaded, len(load) * inner * columns * element, flops)


def combine_traffic(
    tokens: int, choices: int, dim: int, *, block_dim: int, weighted: bool, element: int = 4
) -> Traffic:
    """Exactly what `combine_kernel` moves: each choice's row once, its place (and its gate) per tile of dims."""
    tiles = -(-dim // block_dim)
    loaded = tokens * choices * (tiles * (8 + 4 * weighted) + dim * element)
    return Traffic(loaded, tokens * dim * element, 0)


def expand_traffic(rows: int, kept: int, dim: int, *, block_row: int, element: int = 4) -> Traffic:
    """Exactly what `expand_kernel` moves: kept rows and their tokens' gradients once, all rows' gradients stored."""
    loaded = -(-rows // block_row) * 8 + 8 * rows + kept * (4 + 2 * dim * element)
    return Traffic(loaded, rows * (dim * element + 4), 0)


def exchanged_bytes(loads: Sequence[Sequence[int]], rank: int, width: int, *, element: int = 2) -> int:
    """What a rank receives in a forward pass of experts by all-to-all: `effattn_core.routing.parallel` counts the same.

    loads: of each rank, the rows of its tokens for each expert; experts lie on ranks in order. Rows of other ranks for
    own experts come once, what others made of own rows comes back, and a count of eight bytes per expert and rank.
    """
    ranks, own = len(loads), len(loads[0]) // len(loads)
    mine = slice(rank * own, (rank + 1) * own)
    come = sum(sum(load[mine]) for other, load in enumerate(loads) if other != rank)
    back = sum(loads[rank]) - sum(loads[rank][mine])
    return (come + back) * width * element + 8 * own * (ranks - 1)


def _brings(lines, context):
    """Experts in every layer: their weights, and what stands idle while plain top-k fills one of them."""
    flops = 6 * MODEL.layers * TOP_K * MODEL.width * INNER * context
    idle = Line(
        "experts", "Idle behind the fullest expert", "FLOP", idle_flops(flops, UNLEVELLED), 0, ("idle", ""),
        "what eight devices, one per expert, could compute while they wait for the fullest",
    )  # fmt: skip
    return {"experts": idle}


def _changes(lines, context):
    """Prices of the past level the loads; the experts themselves are more weights, and a router's operations."""
    dense = 3 * MODEL.width * MODEL.feed_forward
    more = MODEL.layers * (layer_parameters(MODEL.width, INNER, EXPERTS) - dense)
    router = MODEL.layers * MODEL.width * EXPERTS
    grown = {
        "experts": lines["experts"].weights * LEVELLED / UNLEVELLED,
        "prefill": lines["prefill"].weights + 2 * router * context,
        "weights": lines["weights"].weights + costs.element_bytes("bfloat16") * more,
        "decode": lines["decode"].weights + costs.element_bytes("bfloat16") * router,
        "optimizer": lines["optimizer"].weights + 8 * more,
    }
    told = {
        "prefill": "every matrix that a token takes, and attention over every pair",
        "weights": "all weights, those of every expert, embedding and head too, in two bytes",
        "decode": "all weights that one token takes, and the whole cache",
    }
    return {
        key: replace(lines[key], weights=value, explanation=told.get(key, lines[key].explanation))
        for key, value in grown.items()
    }


STAGE = Stage(
    topic="routing",
    place=(4, 4),
    method="Prices of the past",
    design=f"grouped heads and {EXPERTS} experts per layer, {TOP_K} per token",
    on="attention",
    brings=_brings,
    changes=_changes,
    cost="All experts are kept and trained, whichever a token takes; and loads are level in the mean only.",
)
