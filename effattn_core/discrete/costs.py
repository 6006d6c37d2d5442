"""What a layer of rules moves, as formulas that the traced kernels must equal; rows B, literals n, nodes m.

The chapter has no stage of the bill: a language model has no rules in it.
"""

from effattn_core.costs import Traffic


def _tiles(size, block):
    return -(-size // block)


def sweep_traffic(
    rows: int, inputs: int, nodes: int, *, block_row: int, block_input: int, block_node: int, element: int = 4
) -> Traffic:
    """Exactly what `sweep_kernel` moves (eq. discrete-traffic): u once per tile of nodes, W once per tile of rows.

    element: bytes of a weight; a truth has one byte, a sum four. Operations are those of whole tiles, two products.
    """
    down, across = _tiles(rows, block_row), _tiles(nodes, block_node)
    loaded = rows * inputs * across + element * inputs * nodes * down
    steps = _tiles(inputs, block_input) * block_input
    return Traffic(loaded, 5 * rows * nodes, 4 * down * block_row * across * block_node * steps)


def slope_traffic(
    rows: int, inputs: int, nodes: int, *, block_row: int, block_input: int, block_node: int, element: int = 4
) -> Traffic:
    """Exactly what `slope_kernel` moves: u once per tile of nodes, the gradient once per tile of literals, W once."""
    down, across = _tiles(inputs, block_input), _tiles(nodes, block_node)
    loaded = rows * inputs * across + 4 * rows * nodes * down + element * inputs * nodes
    steps = _tiles(rows, block_row) * block_row
    return Traffic(loaded, element * inputs * nodes, 2 * down * block_input * across * block_node * steps)


def broadcast_bytes(rows: int, inputs: int, nodes: int) -> int:
    """What LAF by broadcast moves in float32, forward: multiply, 1 -, ln and the sum over B·n·m numbers, 4 bytes each.

    Two passes write and read (multiply; 1 -), the logarithm too, the sum reads: six or seven crossings; six counted.
    """
    return 24 * rows * inputs * nodes
