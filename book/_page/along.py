"""The functions of `triton.language` that work along an axis: sums, extremes, running sums, order, and gathering."""

import builtins
import functools
import itertools
import math

from _page.dtypes import NotOnThePage, bfloat16, float16, float32, int32, uint32
from _page.tile import Tile, count, lines, tile


def _reduced(input, axis, keep_dims, function, dtype):
    input = tile(input)
    if axis is None:
        shape, axis = (len(input.values),), 0
        kept = (1,) * len(input.shape)
    else:
        axis = axis + len(input.shape) if axis < 0 else axis
        if not 0 <= axis < len(input.shape):
            raise ValueError(f"a tile of shape {list(input.shape)} has no axis {axis}.")
        shape, kept = input.shape, (*input.shape[:axis], 1, *input.shape[axis + 1 :])
    values = input.values
    count(len(values) if input.dtype.is_float else 0)
    found = dtype.fit([function([values[place] for place in line]) for line in lines(shape, axis)])
    return Tile(found, kept if keep_dims else shape[:axis] + shape[axis + 1 :], dtype)


def _wide(input, floats=False):
    """Narrow integers are summed and compared in 32 bits, bfloat16 in float32, extremes of float16 too."""
    input = tile(input)
    if input.dtype.is_float:
        return input.to(float32) if input.dtype is bfloat16 or floats and input.dtype is float16 else input
    narrow = input.dtype.bits < 32
    return input.to(uint32 if input.dtype.kind == "uint" and not floats else int32) if narrow else input


def _total(values):
    return math.fsum(values) if all(map(math.isfinite, values)) else builtins.sum(values)


def sum(input, axis=None, keep_dims=False, dtype=None):
    """The sum along an axis, of all elements if axis is None: rounded once, at the end."""
    input = tile(input).to(dtype) if dtype is not None else _wide(input)
    return _reduced(input, axis, keep_dims, _total if input.dtype.is_float else builtins.sum, input.dtype)


def _numbers(values):
    """Without nan, unless there is nothing else."""
    return [value for value in values if value == value] or values


def _extreme(input, axis, return_indices, keep_dims, best):
    input = _wide(input, floats=True)
    value = _reduced(input, axis, keep_dims, lambda values: best(_numbers(values)), input.dtype)
    if not return_indices:
        return value
    return value, _reduced(input, axis, keep_dims, lambda values: values.index(best(_numbers(values))), int32)


def max(input, axis=None, return_indices=False, return_indices_tie_break_left=True, keep_dims=False):
    return _extreme(input, axis, return_indices, keep_dims, builtins.max)


def min(input, axis=None, return_indices=False, return_indices_tie_break_left=True, keep_dims=False):
    return _extreme(input, axis, return_indices, keep_dims, builtins.min)


def argmax(input, axis, tie_break_left=True, keep_dims=False):
    return max(input, axis, True, tie_break_left, keep_dims)[1]


def argmin(input, axis, tie_break_left=True, keep_dims=False):
    return min(input, axis, True, tie_break_left, keep_dims)[1]


def _along(input, axis, function):
    """A tile whose lines along an axis are changed, each as a whole."""
    axis = axis + len(input.shape) if axis < 0 else axis
    values = list(input.values)
    for line in lines(input.shape, axis):
        for place, value in zip(line, function([input.values[each] for each in line]), strict=True):
            values[place] = value
    return Tile(values, input.shape, input.dtype)


def _steps(input, axis, combine):
    """(a tile or a tuple of them, the parts along an axis, one after another, and how two of them are combined)."""
    tiles = input if isinstance(input, tuple) else (input,)
    shape, axis = tiles[0].shape, axis + len(tiles[0].shape) if axis < 0 else axis
    rest = shape[:axis] + shape[axis + 1 :]
    parts = [
        tuple(Tile([each.values[line[step]] for line in lines(shape, axis)], rest, each.dtype) for each in tiles)
        for step in range(shape[axis])
    ]

    def both(left, right):
        found = combine(*left, *right)
        return found if isinstance(found, tuple) else (found,)

    return parts, both, (lambda found: found if isinstance(input, tuple) else found[0]), axis


def reduce(input, axis, combine_fn, keep_dims=False):
    """What your own function makes of all elements along an axis, from the first on; of tuples, a tuple."""
    parts, both, given, axis = _steps(input, axis, combine_fn)
    found = functools.reduce(both, parts)
    if keep_dims:
        found = tuple(Tile(t.values, (*t.shape[:axis], 1, *t.shape[axis:]), t.dtype) for t in found)
    return given(found)


def associative_scan(input, axis, combine_fn, reverse=False):
    """What your own function makes of the elements up to each along an axis; with reverse, from each on."""
    parts, both, given, axis = _steps(input, axis, combine_fn)
    found = list(itertools.accumulate(reversed(parts) if reverse else parts, both))
    found = found[::-1] if reverse else found
    whole = input if isinstance(input, tuple) else (input,)
    tiles = []
    for number, source in enumerate(whole):
        values = list(source.values)
        for place, line in enumerate(lines(source.shape, axis)):
            for step, at in enumerate(line):
                values[at] = found[step][number].values[place]
        tiles.append(Tile(values, source.shape, source.dtype))
    return given(tuple(tiles))


def cumsum(input, axis=0, reverse=False, dtype=None):
    """Sums of all elements up to each, one after another."""
    input = input.to(dtype) if dtype is not None else _wide(input)
    count(len(input.values) if input.dtype.is_float else 0)

    def sums(values):
        found, total = [], 0
        for value in reversed(values) if reverse else values:
            total = input.dtype.fit([total + value])[0]
            found.append(total)
        return found[::-1] if reverse else found

    return _along(input, axis, sums)


def sort(x, dim=None, descending=False):
    if dim not in (None, -1, len(x.shape) - 1):
        raise NotOnThePage(f"tl.sort along axis {dim} is not in this editor: it sorts along the last.")
    return _along(x, -1, lambda values: sorted(values, reverse=bool(descending)))


def gather(src, index, axis):
    """src at the places that index names along an axis; the other axes agree."""
    axis = axis + len(src.shape) if axis < 0 else axis
    values = list(index.values)
    for taken, line in zip(lines(src.shape, axis), lines(index.shape, axis), strict=True):
        for place in line:
            at = index.values[place]
            if not 0 <= at < len(taken):
                raise IndexError(f"tl.gather: index {at} is outside an axis of {len(taken)}.")
            values[place] = src.values[taken[at]]
    return Tile(values, index.shape, src.dtype)
