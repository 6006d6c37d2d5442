"""`triton.language` of the page: the functions that a kernel calls. What is not here says so by name."""

import builtins
import operator
from math import prod

from _page import functions as math  # noqa: F401
from _page import watch
from _page.absent import ABSENT
from _page.access import atomic_add, load, store  # noqa: F401
from _page.along import argmax, argmin, associative_scan, cumsum, gather, max, min, reduce, sort, sum  # noqa: F401
from _page.dtypes import (  # noqa: F401
    Dtype,
    NotOnThePage,
    Pointer,
    bfloat16,
    float16,
    float32,
    float64,
    int1,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from _page.functions import abs, ceil, exp, exp2, floor, fma, log, log2, rsqrt, sqrt  # noqa: F401
from _page.shortened import shortened
from _page.tile import MOST, Tile, binary, met, permuted, spread, tile, together

__all__ = """abs arange argmax argmin associative_scan assume atomic_add bfloat16 broadcast broadcast_to cast cdiv
ceil clamp constexpr cumsum device_assert device_print dot dtype exp exp2 expand_dims float16 float32 float64 floor
fma full gather int1 int16 int32 int64 int8 interleave join load log log2 math max max_constancy max_contiguous
maximum min minimum multiple_of num_programs permute program_id range reduce reshape rsqrt sigmoid sort split
sqrt static_assert static_print static_range store sum trans uint16 uint32 uint64 uint8 view where
zeros zeros_like""".split()

dtype = Dtype


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    if name in ABSENT:
        raise NotOnThePage(f"tl.{name} is not in this editor: {ABSENT[name]}.")
    raise NotOnThePage(f"tl.{name} is not in this editor. It has {', '.join(__all__)}.")


def range(*bounds, **hints):
    """As Python's; hints to the compiler change nothing."""
    return builtins.range(*map(int, bounds))


static_range = range


def multiple_of(input, values):
    """A promise to the compiler, as the two below: it changes nothing."""
    return input


max_contiguous = max_constancy = multiple_of


def assume(cond):
    """A promise to the compiler: it changes nothing."""


class constexpr:
    """An annotation: the argument is known when the kernel is compiled. constexpr(value) is the value."""

    def __new__(cls, value):
        return value


def program_id(axis):
    return Tile([_program().program[_axis(axis)]], (), int32)


def num_programs(axis):
    return Tile([_program().grid[_axis(axis)]], (), int32)


def _program():
    if watch.running is None:
        raise RuntimeError("only a launched kernel has programs: launch it with kernel[grid](...).")
    return watch.running


def _axis(axis):
    if axis not in (0, 1, 2):
        raise ValueError(f"a grid has the axes 0, 1 and 2; got {axis!r}.")
    return axis


def cdiv(x, div):
    """x / div, rounded up."""
    return (x + div - 1) // div


def arange(start, end):
    if isinstance(start, Tile) or isinstance(end, Tile):
        raise ValueError("the ends of tl.arange must be known to the compiler: make them tl.constexpr.")
    if end <= start or (end - start) & (end - start - 1):
        raise ValueError(
            f"tl.arange({start}, {end}) has {builtins.max(end - start, 0)} elements: it must be a power of two."
        )
    _small(end - start)
    return Tile(list(builtins.range(start, end)), (end - start,), int32)


def _small(size):
    """Refuses what Triton refuses."""
    if size > MOST:
        raise ValueError(f"a tile has at most {MOST:,} elements, in Triton as here; this one would have {size:,}.")


def _shape(shape):
    sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    for size in sizes:
        if isinstance(size, Tile) or not isinstance(size, int):
            raise ValueError("the sizes of a tile must be known to the compiler: make them tl.constexpr.")
        if size < 1 or size & (size - 1):
            raise ValueError(f"each size of a tile must be a power of two; got {sizes}.")
    _small(prod(sizes))
    return tuple(sizes)


def full(shape, value, dtype):
    shape = _shape(shape)
    return spread(value.to(dtype) if isinstance(value, Tile) else Tile(dtype.fit([value]), (), dtype), shape)


def zeros(shape, dtype):
    return full(shape, 0, dtype)


def zeros_like(input):
    return full(input.shape, 0, input.dtype)


def cast(input, dtype, fp_downcast_rounding=None, bitcast=False):
    return tile(input).to(dtype, fp_downcast_rounding, bitcast)


def broadcast_to(input, *shape):
    return spread(tile(input), _shape(shape[0] if isinstance(shape[0], (list, tuple)) else shape))


def broadcast(input, other):
    first, second, shape = together(tile(input), tile(other))
    return Tile(first, shape, tile(input).dtype), Tile(second, shape, tile(other).dtype)


def reshape(input, *shape):
    shape = _shape(shape[0] if isinstance(shape[0], (list, tuple)) else shape)
    if prod(shape) != len(input.values):
        raise ValueError(f"a tile of shape {list(input.shape)} cannot have the shape {list(shape)}.")
    return Tile(input.values, shape, input.dtype)


view = reshape


def expand_dims(input, axis):
    axis = axis + len(input.shape) + 1 if axis < 0 else axis
    return Tile(input.values, (*input.shape[:axis], 1, *input.shape[axis:]), input.dtype)


def permute(input, *axes):
    return permuted(input, axes[0] if isinstance(axes[0], (list, tuple)) else axes)


def trans(input, *axes):
    if axes:
        return permute(input, *axes)
    if len(input.shape) < 2:
        raise ValueError(f"tl.trans wants two axes; this tile has the shape {list(input.shape)}.")
    return input.T


def where(condition, x, y):
    """x where the condition holds, else y. Both are computed. Pointers must be those of one tensor."""
    kinds = [each.dtype for each in (x, y) if isinstance(each, Tile) and isinstance(each.dtype, Pointer)]
    if kinds and not (len(kinds) == 2 and kinds[0].tensor is kinds[1].tensor):
        raise NotOnThePage("tl.where between pointers of two tensors is not in this editor: load both, then choose.")
    dtype = kinds[0] if kinds else None
    if not kinds:
        x, y, dtype = met(x, y)
    condition = tile(condition).to(int1)
    one, other, shape = together(x, y)
    choice, one, full_shape = together(condition, Tile(one, shape, dtype))
    other = spread(Tile(other, shape, dtype), full_shape).values
    return Tile([a if chosen else b for chosen, a, b in zip(choice, one, other, strict=True)], full_shape, dtype)


def minimum(x, y):
    return binary("min", x, y)


def maximum(x, y):
    return binary("max", x, y)


def clamp(x, min, max):  # noqa: F811
    """x between two bounds. Where it is nan, min."""
    return minimum(maximum(x, min), max)


def sigmoid(x):
    return 1 / (1 + exp(-tile(x)))


def join(a, b):
    a, b = broadcast(a, b)
    values = [value for pair in zip(a.values, b.values, strict=True) for value in pair]
    return Tile(values, (*a.shape, 2), a.dtype)


def split(a):
    if not a.shape or a.shape[-1] != 2:
        raise ValueError(f"tl.split wants a last axis of 2; got the shape {list(a.shape)}.")
    return tuple(Tile(a.values[first::2], a.shape[:-1], a.dtype) for first in (0, 1))


def interleave(a, b):
    pairs = join(a, b)
    return Tile(pairs.values, (*pairs.shape[:-2], 2 * pairs.shape[-2]), pairs.dtype)


def dot(input, other, acc=None, input_precision=None, allow_tf32=None, max_num_imprecise_acc=None, out_dtype=None):
    """A matrix product, plus acc. Each sum is rounded once, at the end, whatever input_precision says."""
    if not isinstance(input, Tile) or not isinstance(other, Tile) or (len(input.shape), len(other.shape)) != (2, 2):
        raise NotOnThePage("tl.dot in this editor takes two tiles of two axes each.")
    (rows, inner), (second, columns) = input.shape, other.shape
    if inner != second:
        raise ValueError(f"tl.dot: the inner sizes of {list(input.shape)} and {list(other.shape)} differ.")
    if input.dtype is not other.dtype or input.dtype not in (float16, bfloat16, float32, float64, int8):
        raise ValueError(f"tl.dot wants two tiles of one type, floats or int8; got {input.dtype} and {other.dtype}.")
    wanted = out_dtype or (acc.dtype if acc is not None else int32 if input.dtype is int8 else float32)
    dtype = float64 if input.dtype is float64 else wanted
    if acc is not None and (acc.shape != (rows, columns) or acc.dtype is not dtype):
        raise ValueError(f"tl.dot: acc must be [{rows}, {columns}] of {dtype}; got {list(acc.shape)} of {acc.dtype}.")
    if watch.running is not None:
        watch.running.products += 2 * rows * inner * columns
    down = [input.values[first : first + inner] for first in builtins.range(0, rows * inner, inner)]
    across = [other.values[column::columns] for column in builtins.range(columns)]
    values = [builtins.sum(map(operator.mul, row, column)) for row in down for column in across]
    if acc is not None:
        values = [value + more for value, more in zip(values, acc.values, strict=True)]
    return Tile(dtype.fit(values), (rows, columns), dtype)


def static_assert(condition, message=""):
    assert condition, message


device_assert = static_assert
static_print = print


def device_print(prefix, *values, hex=False):
    shown = [shortened(each.values, each.shape) if isinstance(each, Tile) else each for each in values]
    print(_program().program, prefix, *shown)
