"""What smoothing costs: operations and bytes of a step, as formulas that the traced kernel must equal.

The chapter has no stage of the bill: a language model's embedding has no graph, and no line of the bill falls.
"""

from effattn_core.costs import Traffic


def smoothing_flops(entries: int, dim: int, layers: int) -> int:
    """Operations that a smoothed step adds: 2 L nnz d (eq. graphs-flops); entries: two per pair of neighbours."""
    return 2 * layers * entries * dim


def smoothing_bytes(nodes: int, entries: int, dim: int, layers: int, *, element: int = 4) -> int:
    """Bytes that L hops move where nothing stays in a cache: each neighbour's row is read once per edge and hop.

    Per hop the rows of the neighbours, with 12 bytes per entry for its column and value, the sum read and written, and
    all but the last write the power (eq. graphs-bytes). element: of the update; powers and sums between are float32.
    """
    if layers == 0:
        return 2 * nodes * dim * element
    widths = [element] + [4] * (layers - 1)
    read = sum(entries * (dim * each + 12) + nodes * (dim * each + 16) for each in widths)
    return read + (layers - 1) * 2 * nodes * dim * 4 + nodes * dim * element


def adamw_bytes(rows: int, dim: int, *, element: int = 4) -> int:
    """Bytes of an AdamW step over `rows` rows: weight and two moments read and written, the gradient read."""
    return rows * dim * 7 * element


def hop_traffic(
    nodes: int, entries: int, dim: int, *, block_dim: int, last: bool, element: int = 4, out: int = 4
) -> Traffic:
    """Exactly what `hop_kernel` moves: offsets and entries once per tile of dims, a row per entry, the sum in and out.

    element: bytes of what is read, powers and sum; out: of the output. Operations on no matrix unit are not counted.
    """
    tiles = -(-dim // block_dim)
    loaded = tiles * (16 * nodes + 12 * entries) + (entries + nodes) * dim * element
    stored = nodes * dim * (out + (0 if last else 4))
    return Traffic(loaded, stored, 0)
