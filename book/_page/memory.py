"""Tensors on the page, as a launcher sees them: a list of numbers seen through a shape and strides, as in PyTorch."""

import functools
import itertools
import math
import operator

from _page import watch
from _page.absent import HOST
from _page.dtypes import ALL, Dtype, NotOnThePage, bfloat16, converted, float16, float32, float64, int1, int32, int64
from _page.shortened import shortened

_dtype_names = {dtype.name: dtype for dtype in ALL}


class Storage:
    """Numbers of one type in a row. unwritten: the places that torch.empty left and nobody has written since."""

    def __init__(self, values, dtype, unwritten=()):
        self.values, self.dtype, self.unwritten = values, dtype, set(unwritten)


class Device(str):
    """Where a tensor lies: the page has one device, whatever a launcher asks for."""

    type = property(str)
    index = None


class Tensor:
    """A view of a storage: shape, and strides and offset in elements."""

    def __init__(self, storage, shape, strides, offset=0):
        self.storage, self.dtype = storage, storage.dtype
        self.shape, self.strides, self.offset = Shape(shape), tuple(strides), offset
        self.device = Device("page")

    ndim = property(lambda self: len(self.shape))
    T = property(lambda self: self.permute(*reversed(range(self.ndim))))
    mT = property(lambda self: self.transpose(-1, -2))

    def __getattr__(self, name):
        raise NotOnThePage(f"Tensor.{name} is not in this editor: {HOST}.")

    __hash__ = object.__hash__

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def __repr__(self):
        values = [self.storage.values[place] for place in self.places()]
        return f"tensor({shortened(values, self.shape)}, dtype={self.dtype})".replace("\n", "\n       ")

    def dim(self):
        return self.ndim

    def numel(self):
        return math.prod(self.shape)

    def element_size(self):
        return self.dtype.bytes

    def size(self, axis=None):
        return self.shape if axis is None else self.shape[axis]

    def stride(self, axis=None):
        return self.strides if axis is None else self.strides[axis]

    def places(self):
        """The place of each element in the storage, in the order of the flattened tensor."""
        return [self.offset + place for place in _offsets(tuple(self.shape), self.strides)]

    def is_contiguous(self):
        return all(
            size == 1 or stride == wanted
            for size, stride, wanted in zip(self.shape, self.strides, contiguous_strides(self.shape), strict=True)
        )

    def contiguous(self):
        if self.is_contiguous():
            return self
        values = self.storage.values
        return tensor([values[place] for place in self.places()], self.shape, self.dtype)

    def clone(self):
        return self._like(self.dtype)

    def _like(self, dtype):
        """A copy in a type, with the strides that PyTorch gives it."""
        copy, values = empty_like(self, dtype=dtype), self.storage.values
        numbers = converted([values[place] for place in self.places()], self.dtype, dtype)
        for place, number in zip(copy.places(), numbers, strict=True):
            copy.storage.values[place] = number
        copy.storage.unwritten.clear()
        return copy

    def permute(self, *axes):
        return Tensor(self.storage, [self.shape[a] for a in axes], [self.strides[a] for a in axes], self.offset)

    def unsqueeze(self, axis):
        return self[(slice(None),) * (axis + self.ndim + 1 if axis < 0 else axis) + (None,)]

    def squeeze(self, axis):
        return self[(slice(None),) * (axis % self.ndim) + (0,)] if self.shape[axis] == 1 else self

    def expand(self, *shape):
        """A view of a larger shape in which axes of one element have stride 0; -1 leaves a size as it is."""
        shape = _sizes(shape)
        new = len(shape) - self.ndim
        sizes, strides = (1,) * new + tuple(self.shape), (0,) * new + self.strides
        shape = [size if wanted == -1 else wanted for size, wanted in zip(sizes, shape, strict=new >= 0)]
        if new < 0 or any(size not in (1, wanted) for size, wanted in zip(sizes, shape, strict=True)):
            raise ValueError(f"a tensor of shape {tuple(self.shape)} cannot be expanded to {tuple(shape)}.")
        steps = [0 if size == 1 else stride for size, stride in zip(sizes, strides, strict=True)]
        return Tensor(self.storage, shape, steps, self.offset)

    def transpose(self, first, second):
        axes = list(range(self.ndim))
        axes[first], axes[second] = axes[second], axes[first]
        return self.permute(*axes)

    def reshape(self, *shape):
        shape = _sizes(shape)
        if -1 in shape:
            rest = -math.prod(shape)
            shape = [self.numel() // rest if size == -1 else size for size in shape]
        if math.prod(shape) != self.numel():
            raise ValueError(f"a tensor of shape {tuple(self.shape)} cannot have the shape {tuple(shape)}.")
        whole = self.contiguous()
        return Tensor(whole.storage, shape, contiguous_strides(shape), whole.offset)

    def view(self, *shape):
        if not self.is_contiguous():
            raise ValueError("view() wants a contiguous tensor: call .contiguous() first, or reshape().")
        return self.reshape(*shape)

    def flatten(self):
        return self.reshape(-1)

    def to(self, *wanted, dtype=None, device=None):
        """In another type, or in that of another tensor; there is one device."""
        wanted = [each.dtype if isinstance(each, Tensor) else each for each in (*wanted, dtype)]
        for each in (*wanted, device):
            portable(each if isinstance(each, str) else None)
        dtype = next((each for each in wanted if isinstance(each, Dtype)), self.dtype)
        return self if dtype is self.dtype else self._like(dtype)

    def float(self):
        return self.to(float32)

    def double(self):
        return self.to(float64)

    def half(self):
        return self.to(float16)

    def bfloat16(self):
        return self.to(bfloat16)

    def int(self):
        return self.to(int32)

    def long(self):
        return self.to(int64)

    def is_floating_point(self):
        return self.dtype.is_float

    def new_empty(self, *shape, dtype=None, device=None):
        return empty(*shape, dtype=dtype or self.dtype, device=device)

    def new_zeros(self, *shape, dtype=None, device=None):
        return filled(_sizes(shape), 0, dtype or self.dtype, device)

    def new_full(self, size, fill_value, dtype=None, device=None):
        return filled(size, fill_value, dtype or self.dtype, device)

    def item(self):
        if self.numel() != 1:
            raise ValueError(f"item() wants one element; this tensor has {self.numel()}.")
        return self.storage.values[self.places()[0]]

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return operator.index(self.item())

    def tolist(self):
        if not self.shape:
            return self.item()
        return [self[index].tolist() for index in range(len(self))]

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        rest = (slice(None),) * (self.ndim - sum(each is not None and each is not ... for each in index))
        at = next((number for number, each in enumerate(index) if each is ...), len(index))
        index = index[:at] + rest + index[at + 1 :]
        shape, strides, offset, axis = [], [], self.offset, 0
        for each in index:
            if each is None:
                shape.append(1), strides.append(self.shape[axis] * self.strides[axis] if axis < self.ndim else 1)
                continue
            size, stride = self.shape[axis], self.strides[axis]
            axis += 1
            if isinstance(each, slice):
                first, stop, step = each.indices(size)
                shape.append(len(range(first, stop, step))), strides.append(stride * step)
                offset += first * stride
            elif isinstance(each, int) and not isinstance(each, bool):
                if not -size <= each < size:
                    raise IndexError(f"index {each} is outside an axis of {size}.")
                offset += each % size * stride
            else:
                raise NotOnThePage(f"a tensor indexed by a {type(each).__name__} is not in this editor.")
        return Tensor(self.storage, shape, strides, offset)


def _only_by_kernels():
    """What would compute with tensors outside a kernel says so."""

    def refused(name):
        def refuse(*given):
            raise NotOnThePage(f"{name} of tensors is not in this editor: {HOST}.")

        return refuse

    signs = dict(add="+", sub="-", mul="*", truediv="/", floordiv="//", mod="%", pow="**", matmul="@")
    signs |= {"and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>"}
    for method, sign in signs.items():
        for prefix in ("", "r", "i"):
            setattr(Tensor, f"__{prefix}{method}__", refused(sign))
    others = dict(lt="<", le="<=", gt=">", ge=">=", eq="==", ne="!=", neg="-", invert="~", abs="abs()")
    for method, sign in (others | {"setitem": "an assignment to elements"}).items():
        setattr(Tensor, f"__{method}__", refused(sign))


_only_by_kernels()


class Shape(tuple):
    """A tuple with PyTorch's numel()."""

    def numel(self):
        return math.prod(self)


def contiguous_strides(shape):
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * max(size, 1))
    return tuple(reversed(strides[: len(shape)])) if shape else ()


@functools.lru_cache(maxsize=256)
def _offsets(shape, strides):
    axes = [[index * stride for index in range(size)] for size, stride in zip(shape, strides, strict=True)]
    return [sum(each) for each in itertools.product(*axes)]


def like_strides(source):
    """The strides of what PyTorch makes like a tensor: its own where it has no gaps, else packed, axes in its order."""
    shape, strides, expected = source.shape, source.strides, 1
    for stride, size in sorted(pair for pair in zip(strides, shape, strict=True) if pair[1] != 1):
        if stride != expected:
            break
        expected *= size
    else:
        return strides
    order = list(reversed(range(len(shape))))  # from the axis whose elements lie closest
    for at in range(1, len(order)):
        for before in reversed(range(at)):
            inner, outer = order[before], order[at]
            if 0 in (strides[inner], strides[outer]):
                continue
            if (strides[inner], shape[inner]) <= (strides[outer], shape[outer]):
                continue
            order[before], order[at], at = outer, inner, before
    found, step = [0] * len(shape), 1
    for axis in order:
        found[axis], step = step, step * max(shape[axis], 1)
    return tuple(found)


def portable(device):
    """Refuses a device that not every machine has, and a new tensor in a kernel, where Triton has none either."""
    if watch.running is not None:
        raise NotOnThePage("a kernel makes no tensors: tl.zeros, tl.full and tl.arange make its tiles.")
    if device is not None and device.startswith("cuda"):
        raise NotOnThePage(
            f'device="{device}" is not in this editor: write device=source.device, of a tensor that was given, '
            "which is right on every machine."
        )


def empty_like(source, dtype=None, device=None):
    new = empty(source.shape, dtype=dtype or source.dtype, device=device)
    return Tensor(new.storage, new.shape, like_strides(source))


def filled_like(source, value, dtype=None, device=None):
    new = filled(source.shape, value, dtype or source.dtype, device)
    return Tensor(new.storage, new.shape, like_strides(source))


def tensor(values, shape=None, dtype=None, strides=None, offset=0, device=None):
    """A tensor of a flat list with a shape, or of nested lists. With strides and an offset, a view of the flat list."""
    portable(device)
    if isinstance(shape, Dtype):
        shape, dtype = None, shape
    if shape is None:
        shape, values = _nested(values)
    if dtype is None:
        kinds = {type(value) for value in values}
        dtype = float32 if float in kinds or not kinds else int64 if int in kinds else int1
    dtype = _dtype_names[dtype] if isinstance(dtype, str) else dtype
    values = dtype.fit([value != 0 for value in values] if dtype is int1 else values)
    return Tensor(Storage(values, dtype), shape, contiguous_strides(shape) if strides is None else strides, offset)


def _nested(values):
    if not isinstance(values, (list, tuple)):
        return (), [values]
    parts = [_nested(each) for each in values]
    return (len(parts), *(parts[0][0] if parts else ())), [each for _, flat in parts for each in flat]


def _sizes(shape):
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)


def filled(shape, value, dtype, device=None):
    return tensor([value] * math.prod(shape), shape, dtype, device=device)


def empty(*shape, dtype=None, device=None):
    """New memory: full of nan, or of the largest integer, so that what nobody writes is seen."""
    portable(device)
    shape, dtype = _sizes(shape), dtype or float32
    size = math.prod(shape)
    value = math.nan if dtype.is_float else dtype.highest
    return Tensor(Storage([value] * size, dtype, range(size)), shape, contiguous_strides(shape))


def unwritten(result):
    """The indices of the elements of a tensor that torch.empty made and nobody wrote, in order."""
    missing = result.storage.unwritten
    if not missing:
        return []
    indices = itertools.product(*map(range, result.shape))
    return [index for index, place in zip(indices, result.places(), strict=True) if place in missing]
