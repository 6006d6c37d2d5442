"""`torch` of the page: what a launcher needs to make its result. What is not here says so by name."""

import math

from _page.absent import HOST
from _page.dtypes import NotOnThePage, bfloat16, float16, float32, float64, int8, int16, int32, int64, uint8  # noqa: F401
from _page.dtypes import int1 as bool  # noqa: F401
from _page.memory import Device, Tensor, empty, filled, tensor  # noqa: F401
from _page.memory import _sizes as _shape

__all__ = """Tensor arange allclose device empty empty_like equal full full_like ones ones_like tensor zeros zeros_like
bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 bool inf nan""".split()
float, half, long, device = float32, float16, int64, Device
inf, nan = math.inf, math.nan


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise NotOnThePage(f"torch.{name} is not on the page. It has {', '.join(__all__)}; {HOST}.")


def empty_like(source, dtype=None, device=None):
    return empty(source.shape, dtype=dtype or source.dtype)


def full(size, fill_value, dtype=None, device=None):
    return tensor([fill_value] * math.prod(size), size, dtype)


def full_like(source, fill_value, dtype=None, device=None):
    return filled(source.shape, fill_value, dtype or source.dtype)


def zeros(*shape, dtype=None, device=None):
    return filled(_shape(shape), 0, dtype or float32)


def ones(*shape, dtype=None, device=None):
    return filled(_shape(shape), 1, dtype or float32)


def zeros_like(source, dtype=None, device=None):
    return filled(source.shape, 0, dtype or source.dtype)


def ones_like(source, dtype=None, device=None):
    return filled(source.shape, 1, dtype or source.dtype)


def arange(*bounds, dtype=None, device=None):
    """Whole or, where a bound is a float, float32 numbers: start, stop and step as in PyTorch."""
    first, stop, step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: bounds}[len(bounds)]
    count = max(0, math.ceil((stop - first) / step))
    values = [first + index * step for index in range(count)]
    return tensor(values, (count,), dtype or (int64 if all(isinstance(b, int) for b in bounds) else float32))


def _values(source):
    return [source.storage.values[place] for place in source.places()]


def equal(left, right):
    return tuple(left.shape) == tuple(right.shape) and _values(left) == _values(right)


def allclose(left, right, rtol=1e-5, atol=1e-8):
    """Whether shapes agree and |left − right| ≤ atol + rtol · |right| everywhere."""
    return tuple(left.shape) == tuple(right.shape) and all(
        a == b or abs(a - b) <= atol + rtol * abs(b) for a, b in zip(_values(left), _values(right), strict=True)
    )
