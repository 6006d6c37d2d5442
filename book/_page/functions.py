"""`triton.language.math` of the page: functions of one element, which the language has as well."""

import builtins
import math

from _page.absent import ABSENT
from _page.dtypes import NotOnThePage, float32, float64
from _page.tile import mapped, met, tile

__all__ = "abs ceil exp exp2 floor fma log log2 rsqrt sqrt".split()


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    why = f": {ABSENT[name]}" if name in ABSENT else f". It has {', '.join(__all__)}"
    raise NotOnThePage(f"tl.math.{name} is not in this editor{why}.")


def fma(x, y, z):
    """x · y + z, computed in 64 bits and rounded at the end."""
    x, y, dtype = met(x, y)
    x, z, dtype = met(x, z)
    if not dtype.is_float:
        raise TypeError(f"tl.fma wants floats; got {dtype}.")
    x, y, z = (each.to(float64) for each in (x, y, z))
    return (x * y + z).to(dtype)


def _safely(function, beyond, outside):
    """A function of the math module with what a processor gives where Python raises."""

    def apply(value):
        try:
            return function(value)
        except OverflowError:
            return beyond
        except ValueError:
            return outside(value)

    return apply


_nan = lambda value: math.nan  # noqa: E731
_below = lambda value: -math.inf if value == 0 else math.nan  # noqa: E731
_FUNCTIONS = {
    "exp": _safely(math.exp, math.inf, _nan),
    "exp2": _safely(math.exp2, math.inf, _nan),
    "log": _safely(math.log, math.inf, _below),
    "log2": _safely(math.log2, math.inf, _below),
    "sqrt": _safely(math.sqrt, math.inf, _nan),
    "ceil": lambda value: float(math.ceil(value)) if math.isfinite(value) else value,
    "floor": lambda value: float(math.floor(value)) if math.isfinite(value) else value,
}


def _apply(name, x):
    x = tile(x)
    if x.dtype not in (float32, float64):
        raise ValueError(f"tl.{name} wants float32 or float64; got {x.dtype}: convert with .to(tl.float32).")
    return mapped(_FUNCTIONS[name], x)


def exp(x):
    return _apply("exp", x)


def exp2(x):
    return _apply("exp2", x)


def log(x):
    return _apply("log", x)


def log2(x):
    return _apply("log2", x)


def sqrt(x):
    return _apply("sqrt", x)


def ceil(x):
    return _apply("ceil", x)


def floor(x):
    return _apply("floor", x)


def rsqrt(x):
    return 1.0 / _apply("sqrt", x)


def abs(x):
    x = tile(x)
    return mapped(builtins.abs, x)
