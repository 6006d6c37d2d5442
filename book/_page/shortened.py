"""How numbers are printed: shortened as PyTorch does it, so that a page is not flooded by one print."""

import math

EDGE = 3  # elements that are kept at each end of an axis


def shortened(values, shape):
    """A flat list of numbers as nested rows of a shape: at most 3 from each end of an axis, 4 digits of each number."""
    if not shape:
        return _number(values[0])
    size, inner = shape[0], math.prod(shape[1:])
    kept = range(size) if size <= 2 * EDGE else [*range(EDGE), None, *range(size - EDGE, size)]
    parts = [
        "..." if index is None else shortened(values[index * inner : (index + 1) * inner], shape[1:]) for index in kept
    ]
    between = ", " if len(shape) == 1 else ",\n" + "\n" * (len(shape) - 2)
    return f"[{between.join(parts)}]" if len(shape) == 1 else f"[{_aligned(between.join(parts))}]"


def _aligned(text):
    """The lines after the first, one further in."""
    return "\n".join(f" {line}" if number and line else line for number, line in enumerate(text.split("\n")))


def _number(value):
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4g}"
    return text if not math.isfinite(value) or set(text) & set(".e") else f"{text}."
