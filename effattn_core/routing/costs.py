"""What experts cost: rows computed and dropped, bytes of a layer, and the traffic of the kernels, exactly.

STAGE, what the chapter does to the bill, is not written yet: the bill has no line for experts that wait for others.
"""

import math
from collections.abc import Sequence

from effattn_core.costs import Traffic


def layer_flops(width: int, inner: int, experts: int, top_k: int, shared: int = 0) -> int:
    """Operations per token of a layer of SwiGLU experts: 6 · (top_k + shared) · width · inner, and the router's."""
    return 6 * (top_k + shared) * width * inner + 2 * width * experts


def layer_parameters(width: int, inner: int, experts: int, shared: int = 0) -> int:
    """Weights of the layer: three matrices per expert, and the router."""
    return 3 * (experts + shared) * width * inner + width * experts


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
