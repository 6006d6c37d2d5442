"""`tl.load` and `tl.store` of the page: lanes outside a tensor are noted and left out, so that they do no harm."""

from _page import watch
from _page.dtypes import Pointer, int1
from _page.tile import Tile, meeting, spread, tile


def load(pointer, mask=None, other=None, boundary_check=(), padding_option="", cache_modifier="", eviction_policy="",
         volatile=False):  # fmt: skip
    """The elements at the pointers. Where mask is False, other, or 0 if there is none; nothing is loaded there."""
    _pointer(pointer, "load")
    if mask is None and other is not None:
        raise ValueError("tl.load: `other` says nothing without a mask.")
    pointer, mask, other = _together("load", pointer, mask=mask, other=other)
    tensor, dtype = pointer.dtype.tensor, pointer.dtype.element
    values = [0 if dtype.is_integer else 0.0] * len(pointer.values) if other is None else list(other.to(dtype).values)
    memory, first = tensor.storage.values, tensor.offset
    for lane in _allowed("load", pointer, mask):
        values[lane] = memory[first + pointer.values[lane]]
    return Tile(values, pointer.shape, dtype)


def store(pointer, value, mask=None, boundary_check=(), cache_modifier="", eviction_policy=""):
    """Write a value to each pointer, in the type of the tensor, where mask is not False."""
    _pointer(pointer, "store")
    pointer, mask, value = _together("store", pointer, mask=mask, value=value)
    if mask is not None and mask.dtype is not int1:
        raise ValueError(f"tl.store: the mask must be a comparison's result; got {mask.dtype}.")
    tensor = pointer.dtype.tensor
    values, storage = value.to(pointer.dtype.element).values, tensor.storage
    for lane in _allowed("store", pointer, mask):
        place = tensor.offset + pointer.values[lane]
        storage.values[place] = values[lane]
        storage.unwritten.discard(place)


def _pointer(pointer, what):
    if not isinstance(pointer, Tile) or not isinstance(pointer.dtype, Pointer):
        raise ValueError(f"tl.{what} wants a pointer, an argument that is a tensor plus offsets; got {pointer!r:.60}.")
    if watch.running is None:
        raise RuntimeError(f"tl.{what} is for launched kernels: launch this one with kernel[grid](...).")


def _together(what, pointer, mask, **named):
    """Pointer, mask and the other one in one shape: for tl.store that of the pointer."""
    ((name, value),) = named.items()
    mask, value = (each if each is None else tile(each) for each in (mask, value))
    shape = pointer.shape
    for said, each in (("mask", mask), (name, value)):
        if each is None:
            continue
        if not pointer.shape and each.shape:
            raise ValueError(f"tl.{what}: {said} has the shape {list(each.shape)}, and the pointer is one address.")
        shape = meeting(shape, each.shape)
    if what == "store" and shape != pointer.shape:
        raise ValueError(f"tl.store: the pointer has the shape {list(pointer.shape)}, the rest {list(shape)}.")
    return tuple(each if each is None else spread(each, shape) for each in (pointer, mask, value))


def _allowed(kind, pointer, mask):
    """The lanes that are wanted and lie in the tensor, after they were noted."""
    lanes = range(len(pointer.values)) if mask is None else [lane for lane, on in enumerate(mask.values) if on]
    offsets = [pointer.values[lane] for lane in lanes]
    return [
        lane for lane, good in zip(lanes, watch.running.inside(kind, pointer.dtype.of, offsets), strict=True) if good
    ]
