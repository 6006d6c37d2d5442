"""A tile: what a kernel computes with. A flat list of numbers of one type, with a shape; a scalar has the shape ().

Each operation rounds as its type does, and follows Triton's rules for types and broadcasting.
"""

import functools
import itertools
import math
import operator

from _page import watch
from _page.dtypes import Dtype, NotOnThePage, Pointer, common, converted, float32, int1, reinterpreted, type_of
from _page.shortened import shortened

NUMBERS = (bool, int, float)
MOST = 1 << 20  # elements of a tile: Triton's own limit
# Of the language's functions, those that a tile has as methods.
MEMBERS = """abs argmax argmin associative_scan broadcast_to cumsum exp exp2 expand_dims gather log log2 max min permute
reduce reshape rsqrt sigmoid sort split sqrt sum trans""".split()


class Tile:
    """shape: a tuple; dtype: a Dtype, or a Pointer, whose values are offsets; values: a flat list."""

    def __init__(self, values, shape, dtype):
        self.values, self.shape, self.dtype = values, tuple(shape), dtype

    numel = property(lambda self: len(self.values))
    T = property(lambda self: permuted(self, (*range(len(self.shape) - 2), len(self.shape) - 1, len(self.shape) - 2)))

    def __getattr__(self, name):
        if name in MEMBERS:
            from _page import language

            return functools.partial(getattr(language, name), self)
        raise NotOnThePage(f"a tile has no .{name} in this editor.")

    def __repr__(self):
        what = f"addresses, {self.dtype} plus" if isinstance(self.dtype, Pointer) else f"{self.dtype}:"
        between = "\n" if len(self.shape) > 1 else " "
        return f"tile{list(self.shape)} of {what}{between}{shortened(self.values, self.shape)}"

    def to(self, dtype, fp_downcast_rounding=None, bitcast=False):
        """In another type: rounded, wrapped or cut towards zero; with bitcast=True the same bits."""
        if fp_downcast_rounding not in (None, "rtne"):
            raise NotOnThePage(f"rounding {fp_downcast_rounding!r} is not in this editor: it rounds to the nearest.")
        if not isinstance(dtype, Dtype) or isinstance(self.dtype, Pointer):
            raise NotOnThePage(f"a cast from {self.dtype} to {dtype} is not in this editor.")
        change = reinterpreted if bitcast else converted
        return Tile(change(self.values, self.dtype, dtype), self.shape, dtype)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if isinstance(self.dtype, Pointer) and not self.shape and any(each is not None for each in index):
            name = self.dtype.of
            raise TypeError(f"{name} is a pointer: its elements are loaded by tl.load({name} + places).")
        shape, axis = [], 0
        for each in index:
            if each is None:
                shape.append(1)
            elif isinstance(each, slice) and each == slice(None):
                if axis == len(self.shape):
                    raise IndexError(f"a tile of shape {list(self.shape)} has no axis {axis}.")
                shape.append(self.shape[axis])
                axis += 1
            else:
                got = "a tile" if isinstance(each, Tile) else repr(each)
                raise NotOnThePage(f"a tile is indexed by None and : only; got {got}: see tl.gather.")
        return Tile(self.values, (*shape, *self.shape[axis:]), self.dtype)

    def __setitem__(self, index, value):
        if isinstance(self.dtype, Pointer):
            raise TypeError(f"elements of {self.dtype.of} are stored by tl.store({self.dtype.of} + places, value).")
        raise TypeError("a tile is not assigned to element by element: tl.where(condition, x, y) makes a new one.")

    def __pow__(self, power):
        raise TypeError("Triton has no **: write x * x for a square, tl.sqrt(x) for a root, tl.exp2(x) for 2 ** x.")

    __rpow__ = __pow__

    def __matmul__(self, other):
        raise TypeError("a product of two tiles is tl.dot(left, right): this editor has no @ for them.")

    def __float__(self):
        raise TypeError(
            "Python's own functions compute with numbers, not with tiles: in a kernel write tl.sqrt, tl.exp …"
        )

    def __index__(self):
        if len(self.values) != 1 or not self.dtype.is_integer:
            raise TypeError(f"one integer is wanted here; this is a tile of shape {list(self.shape)} of {self.dtype}.")
        return int(self.values[0])

    def __bool__(self):
        if len(self.values) != 1:
            raise ValueError(
                f"a tile of shape {list(self.shape)} is neither true nor false: use tl.where, & and | instead of "
                "if, and, or, not, or a comparison of three."
            )
        return bool(self.values[0])

    def __len__(self):
        raise TypeError("a tile has no len(): its sizes are in .shape.")

    def __iter__(self):
        raise NotOnThePage("a tile cannot be walked element by element.")

    __hash__ = None

    def __neg__(self):
        if self.dtype.is_float:
            return mapped(operator.neg, self)
        return binary("-", Tile([0], (), self.dtype), self)

    def __pos__(self):
        return self

    def __invert__(self):
        if not self.dtype.is_integer:
            raise TypeError(f"~ wants integers; got {self.dtype}.")
        return Tile(self.dtype.fit([not v if self.dtype is int1 else ~v for v in self.values]), self.shape, self.dtype)


def tile(value):
    """A tile as it is, a Python number as a scalar of the type it has in a kernel."""
    if isinstance(value, Tile):
        return value
    if not isinstance(value, NUMBERS):
        raise TypeError(f"a kernel cannot compute with {value!r} of type {type(value).__name__}.")
    dtype = type_of(value)
    return Tile(dtype.fit([value]), (), dtype)


def mapped(function, source, counted=True):
    """A function of one element, element by element, in the source's own type."""
    count(len(source.values) if counted and source.dtype.is_float else 0)
    return Tile(source.dtype.fit([function(value) for value in source.values]), source.shape, source.dtype)


def count(lanes):
    if watch.running is not None:
        watch.running.operations += lanes


def _divide(left, right):
    if right:
        return left / right
    return math.nan if not left or left != left else math.copysign(math.inf, left) * math.copysign(1.0, right)


def _remainder(left, right):
    """Of the sign of the left one, as in C."""
    if not right:
        return 0
    return -(-left % abs(right)) if left < 0 else left % abs(right)


def _float_remainder(left, right):
    return math.fmod(left, right) if right and math.isfinite(left) else math.nan


def _quotient(left, right):
    return (left - _remainder(left, right)) // right if right else 0


def smaller(left, right):
    """The smaller number; of nan and a number, the number."""
    return left if left <= right or right != right else right


def larger(left, right):
    return left if left >= right or right != right else right


ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "min": smaller, "max": larger}
BITWISE = {"&": operator.and_, "|": operator.or_, "^": operator.xor}
COMPARISONS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def binary(name, left, right):
    """One of the operators between tiles, or a tile and a number, as Triton types and broadcasts it."""
    for each, other in ((left, right), (right, left)):
        if isinstance(each, Tile) and isinstance(each.dtype, Pointer):
            return _moved(name, left, right, each, other)
    left, right, dtype = met(left, right, name in ("/", "//", "%"))
    if name in COMPARISONS:
        return _zipped(COMPARISONS[name], left, right, int1, False)
    if name in ARITHMETIC:
        return _zipped(ARITHMETIC[name], left, right, dtype)
    if name == "/":
        dtype = dtype if dtype.is_float else float32
        return _zipped(_divide, *(each.to(dtype) for each in (left, right)), dtype)
    if name == "%":
        return _zipped(_float_remainder if dtype.is_float else _remainder, left, right, dtype)
    if not dtype.is_integer:
        raise TypeError(f"{name} wants integers; got {dtype}.")
    if name == "//":
        return _zipped(_quotient, left, right, dtype)
    if name in BITWISE:
        return _zipped(BITWISE[name], left, right, dtype)
    return _zipped(functools.partial(_shifted, name, dtype), left, right, dtype)


def _shifted(name, dtype, value, by):
    if not 0 <= by < max(dtype.bits, 2):
        return -1 if name == ">>" and value < 0 else 0
    return value << by if name == "<<" else value >> by


def met(left, right, dividing=False):
    """Two operands in their common type, numbers made scalars of it."""
    numbers = [isinstance(each, NUMBERS) for each in (left, right)]
    types = [type_of(each) if number else tile(each).dtype for each, number in zip((left, right), numbers, strict=True)]
    dtype = common(*types, *numbers, dividing)
    found = []
    for each, number in zip((left, right), numbers, strict=True):
        if number and dtype.is_integer and not dtype.lowest <= each <= dtype.highest:
            raise ValueError(f"the number {each} is out of the range of {dtype}.")
        found.append(Tile(dtype.fit([each]), (), dtype) if number else each.to(dtype))
    return *found, dtype


def _moved(name, left, right, pointer, offset):
    """A pointer and an integer: the address so many elements on."""
    if not (name == "+" or name == "-" and pointer is left):
        raise TypeError(f"{name} cannot be taken of a pointer ({pointer.dtype}): load its elements first.")
    offset = tile(offset)
    if not offset.dtype.is_integer:
        raise TypeError(f"a pointer moves by integers; got {offset.dtype}.")
    function = operator.add if name == "+" else operator.sub
    a, b, shape = together(pointer, offset)
    return Tile([function(place, by) for place, by in zip(a, b, strict=True)], shape, pointer.dtype)


def _zipped(function, left, right, dtype, counted=True):
    a, b, shape = together(left, right)
    if counted and dtype.is_float:
        count(len(a))
    return Tile(dtype.fit([*map(function, a, b)]) if counted else [*map(function, a, b)], shape, dtype)


def together(left, right):
    """(values, values, shape) of two tiles in the shape that they broadcast to."""
    if left.shape == right.shape:
        return left.values, right.values, left.shape
    shape = meeting(left.shape, right.shape)
    return spread(left, shape).values, spread(right, shape).values, shape


def meeting(first, second):
    """The shape that two shapes broadcast to. Raises ValueError where they do not."""
    pairs = list(itertools.zip_longest(reversed(first), reversed(second), fillvalue=1))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ValueError(f"tiles of shapes {list(first)} and {list(second)} do not broadcast to one shape.")
    shape = tuple(max(a, b) for a, b in reversed(pairs))
    if math.prod(shape) > MOST:
        raise ValueError(f"a tile has at most {MOST:,} elements, in Triton as here; {list(shape)} has more.")
    return shape


def spread(source, shape):
    """A tile broadcast to a shape."""
    if source.shape == shape:
        return source
    if len(source.values) == 1:
        return Tile(source.values * math.prod(shape), shape, source.dtype)
    values = source.values
    return Tile([values[place] for place in _spread(source.shape, tuple(shape))], shape, source.dtype)


def _strides(shape):
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _walk(shape, strides):
    return [
        sum(each)
        for each in itertools.product(*([i * s for i in range(n)] for n, s in zip(shape, strides, strict=True)))
    ]


@functools.lru_cache(maxsize=512)
def _spread(shape, target):
    if meeting(shape, target) != target:
        raise ValueError(f"a tile of shape {list(shape)} does not broadcast to {list(target)}.")
    padded = (1,) * (len(target) - len(shape)) + shape
    return _walk(target, [0 if size == 1 else stride for size, stride in zip(padded, _strides(padded), strict=True)])


@functools.lru_cache(maxsize=512)
def _permuted(shape, axes):
    strides = _strides(shape)
    return _walk([shape[axis] for axis in axes], [strides[axis] for axis in axes])


def permuted(source, axes):
    """A tile with its axes in another order."""
    if sorted(axes) != list(range(len(source.shape))):
        raise ValueError(f"the axes of a tile of shape {list(source.shape)} cannot be ordered as {list(axes)}.")
    values = [source.values[place] for place in _permuted(source.shape, tuple(axes))]
    return Tile(values, [source.shape[axis] for axis in axes], source.dtype)


@functools.lru_cache(maxsize=512)
def lines(shape, axis):
    """For each line along an axis, the places of its elements."""
    strides = _strides(shape)
    rest = [(n, s) for number, (n, s) in enumerate(zip(shape, strides, strict=True)) if number != axis]
    starts = _walk([n for n, _ in rest], [s for _, s in rest])
    return [[start + step * strides[axis] for step in range(shape[axis])] for start in starts]


def _operators():
    names = dict(add="+", sub="-", mul="*", truediv="/", floordiv="//", mod="%", lshift="<<", rshift=">>")
    names |= {"and": "&", "or": "|", "xor": "^"}
    for method, name in names.items():
        setattr(Tile, f"__{method}__", lambda self, other, name=name: binary(name, self, other))
        setattr(Tile, f"__r{method}__", lambda self, other, name=name: binary(name, other, self))
    for method, name in dict(lt="<", le="<=", gt=">", ge=">=", eq="==", ne="!=").items():
        setattr(Tile, f"__{method}__", lambda self, other, name=name: binary(name, self, other))


_operators()
