"""What one step moves between memory and chip: of the fused kernel exactly, and per parameter as the paper's bill."""

from effattn_core.calls import require_count
from effattn_core.costs import Traffic, cdiv
from effattn_core.lowbit.packing import packed_bytes

BLOCK = 128  # elements that share a scale in the kernel


def step_traffic(count: int, *, bits: tuple[int, int] = (4, 2), element: int = 4) -> Traffic:
    """Exactly what the fused step moves for `count` parameters (eq. lowbit-traffic): each number once each way.

    bits: of the first and the second moment; element: bytes of a parameter and of its gradient. Read are both, the
    codes of both moments, and three float32 per block: the scales and the slope; the gradient alone is not written.
    """
    require_count("count", count, 0)
    if element not in (2, 4):
        raise ValueError(f"element must be 2 or 4 bytes; it is {element!r}.")
    states = sum(packed_bytes(count, each) for each in bits) + 3 * 4 * cdiv(count, BLOCK)
    return Traffic(2 * element * count + states, element * count + states, 0)


def bytes_per_parameter(state: float, element: int = 4) -> float:
    """Bytes that a step in one pass moves per parameter: 3 · element + 2 · state (eq. lowbit-traffic).

    state: bytes of both moments per parameter, read and written; element: bytes of a parameter, read and written, and
    of its gradient, read.
    """
    if not state >= 0:
        raise ValueError(f"state must be bytes per parameter, at least 0; it is {state!r}.")
    if element not in (2, 4):
        raise ValueError(f"element must be 2 or 4 bytes; it is {element!r}.")
    return 3 * element + 2 * state
