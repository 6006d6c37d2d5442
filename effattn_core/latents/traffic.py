"""What the kernels of the head step move and multiply, as formulas that the traced launches must equal."""

from effattn_core.costs import Traffic


def _tiles(size: int, block: int) -> int:
    return -(-size // block)


def modulate_traffic(rows: int, width: int, *, element: int = 4) -> Traffic:
    """Exactly what `head_modulate_kernel` moves: u, shift and scale once; the result, and a float32 root per row."""
    return Traffic(3 * rows * width * element, rows * (width * element + 4), 0)


def up_traffic(rows: int, width: int, hidden: int, *, blocks, kept: bool, element: int = 4) -> Traffic:
    """Exactly what `head_up_kernel` moves (eq. latents-traffic); blocks: (row, column, inner).

    Each row is read once per tile of hidden columns, both matrices once per tile of rows; kept: the products too.
    """
    return _in(rows, width, hidden, blocks, passes=1, stored=3 if kept else 1, element=element)


def sample_traffic(rows: int, width: int, hidden: int, *, blocks, element: int = 4) -> Traffic:
    """Exactly what `head_sample_kernel` moves: as `up_traffic`, but u twice, shift and scale per tile of columns."""
    return _in(rows, width, hidden, blocks, passes=4, stored=1, element=element)


def _in(rows, width, hidden, blocks, *, passes, stored, element):
    row, column, inner = blocks
    down, across = _tiles(rows, row), _tiles(hidden, column)
    loaded = element * (passes * across * rows * width + 2 * down * hidden * width)
    flops = 2 * down * across * _tiles(width, inner) * 2 * row * column * inner
    return Traffic(loaded, stored * rows * hidden * element, flops)


def down_traffic(rows: int, width: int, hidden: int, *, blocks, kept: bool, element: int = 4) -> Traffic:
    """Exactly what `head_down_kernel` moves: inner rows per tile of columns, the matrix per tile of rows, u, gate."""
    row, column, inner = blocks
    down, across = _tiles(rows, row), _tiles(width, column)
    loaded = element * (across * rows * hidden + down * width * hidden + 2 * rows * width)
    flops = down * across * _tiles(hidden, inner) * 2 * row * column * inner
    return Traffic(loaded, (1 + kept) * rows * width * element, flops)


def gate_backward_traffic(rows: int, width: int, *, element: int = 4) -> Traffic:
    """Exactly what `head_gate_backward_kernel` moves: three rows in, two out."""
    return Traffic(3 * rows * width * element, 2 * rows * width * element, 0)


def inner_backward_traffic(rows: int, width: int, hidden: int, *, blocks, element: int = 4) -> Traffic:
    """Exactly what `head_inner_backward_kernel` moves: the kept products in, their gradients and inner out."""
    row, column, inner = blocks
    down, across = _tiles(rows, row), _tiles(hidden, column)
    loaded = element * (across * rows * width + down * width * hidden + 2 * rows * hidden)
    flops = down * across * _tiles(width, inner) * 2 * row * column * inner
    return Traffic(loaded, 3 * rows * hidden * element, flops)


def hidden_backward_traffic(rows: int, width: int, hidden: int, *, blocks, element: int = 4) -> Traffic:
    """Exactly what `head_hidden_backward_kernel` moves: both gradients per tile of columns, both matrices per rows'."""
    row, column, inner = blocks
    down, across = _tiles(rows, row), _tiles(width, column)
    loaded = element * 2 * (across * rows * hidden + down * width * hidden)
    flops = 2 * down * across * _tiles(hidden, inner) * 2 * row * column * inner
    return Traffic(loaded, rows * width * element, flops)


def norm_backward_traffic(rows: int, width: int, *, element: int = 4) -> Traffic:
    """Exactly what `head_norm_backward_kernel` moves: four rows and a float32 root in, two rows out."""
    return Traffic(rows * (4 * width * element + 4), 2 * rows * width * element, 0)


def weights_traffic(
    rows: int, down: int, across: int, *, share: int, block_walk: int, side: int, element: int = 4
) -> Traffic:
    """Exactly what `head_weights_kernel` and, over several splits, `head_merge_kernel` move for [down, across].

    share: rows of a split, of which each ends with a tile of its own. Splits are stored in float32 and read again.
    """
    tall, broad, splits = _tiles(down, side), _tiles(across, side), max(1, _tiles(rows, share))
    loaded, stored = element * rows * (down * broad + across * tall), down * across * element
    walks = sum(_tiles(min(share, rows - begin), block_walk) for begin in range(0, rows, share))
    parts = 4 * splits * down * across if splits > 1 else 0
    return Traffic(loaded + parts, stored + parts, walks * block_walk * 2 * side * side * tall * broad)


def step_traffic(rows: int, width: int, hidden: int, *, blocks, kept: bool, few: bool, element: int = 4) -> Traffic:
    """A step forward: modulation, products, output; in two launches where there are few rows and nothing is kept."""
    out = down_traffic(rows, width, hidden, blocks=blocks, kept=kept, element=element)
    if few and not kept:
        return _sum(sample_traffic(rows, width, hidden, blocks=blocks, element=element), out)
    first = modulate_traffic(rows, width, element=element)
    return _sum(first, up_traffic(rows, width, hidden, blocks=blocks, kept=kept, element=element), out)


def _sum(*parts):
    return Traffic(*(sum(getattr(part, name) for part in parts) for name in ("loaded", "stored", "flops")))


def fused_reads(hidden: int, block_column: int) -> tuple[int, int]:
    """Numbers read and written per number of a row up to the first product: (norm in the product, norm before it).

    In the product every tile of hidden columns reads u twice, shift and scale: 4 tiles. Before it they are read once
    and the result is stored, then read per tile: 4 + tiles. So a pass of its own wins from two tiles on.
    """
    tiles = _tiles(hidden, block_column)
    return 4 * tiles, 4 + tiles
