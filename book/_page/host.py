"""`torch` of the page: what a launcher needs to make its result. What is not here says so by name."""

import math

from _page import language, watch
from _page.absent import HOST
from _page.dtypes import NotOnThePage, bfloat16, float16, float32, float64, int8, int16, int32, int64, uint8  # noqa: F401
from _page.dtypes import int1 as bool  # noqa: F401
from _page.memory import Device, Tensor, empty, empty_like, filled, filled_like, portable, tensor  # noqa: F401
from _page.memory import _sizes as _shape

__all__ = """Tensor arange allclose device empty empty_like equal full full_like ones ones_like tensor zeros zeros_like
bfloat16 float16 float32 float64 int8 int16 int32 int64 uint8 bool inf nan""".split()
float, half, long = float32, float16, int64
inf, nan = math.inf, math.nan


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if watch.running is not None:
        instead = f"tl.{name}" if name in language.__all__ else "a function of tl"
        raise NotOnThePage(f"torch.{name} is PyTorch's, and a kernel computes with Triton's own: write {instead}.")
    raise NotOnThePage(f"torch.{name} is not in this editor. It has {', '.join(__all__)}; {HOST}.")


def device(name):
    portable(name)
    return Device(name)


def full(size, fill_value, dtype=None, device=None):
    return tensor([fill_value] * math.prod(size), size, dtype, device=device)


def full_like(source, fill_value, dtype=None, device=None):
    return filled_like(source, fill_value, dtype, device)


def zeros(*shape, dtype=None, device=None):
    return filled(_shape(shape), 0, dtype or float32, device)


def ones(*shape, dtype=None, device=None):
    return filled(_shape(shape), 1, dtype or float32, device)


def zeros_like(source, dtype=None, device=None):
    return filled_like(source, 0, dtype, device)


def ones_like(source, dtype=None, device=None):
    return filled_like(source, 1, dtype, device)


def arange(*bounds, dtype=None, device=None):
    """Whole or, where a bound is a float, float32 numbers: start, stop and step as in PyTorch."""
    first, stop, step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: bounds}[len(bounds)]
    count = max(0, math.ceil((stop - first) / step))
    values = [first + index * step for index in range(count)]
    dtype = dtype or (int64 if all(isinstance(b, int) for b in bounds) else float32)
    return tensor(values, (count,), dtype, device=device)


def _values(source):
    return [source.storage.values[place] for place in source.places()]


def equal(left, right):
    return tuple(left.shape) == tuple(right.shape) and _values(left) == _values(right)


def allclose(left, right, rtol=1e-5, atol=1e-8):
    """Whether shapes agree and |left − right| ≤ atol + rtol · |right| everywhere."""
    return tuple(left.shape) == tuple(right.shape) and all(
        a == b or abs(a - b) <= atol + rtol * abs(b) for a, b in zip(_values(left), _values(right), strict=True)
    )
