"""`tl.load`, `tl.store` and `tl.atomic_add` of the page: lanes outside a tensor are noted and left out."""

from _page import watch
from _page.dtypes import Pointer, int1
from _page.tile import Tile, count, meeting, spread, tile


def load(pointer, mask=None, other=None, boundary_check=(), padding_option="", cache_modifier="", eviction_policy="",
         volatile=False):  # fmt: skip
    """The elements at the pointers. Where mask is False, other, or 0 if there is none; nothing is loaded there.

    The 0 is no promise: in a poisoned run (`watch.watched`) such a lane holds no number.
    """
    _pointer(pointer, "load")
    if mask is None and other is not None:
        raise ValueError("tl.load: `other` says nothing without a mask.")
    pointer, mask, other = _together("load", pointer, mask=mask, other=other)
    tensor, dtype = pointer.dtype.tensor, pointer.dtype.element
    values = [dtype.zero] * len(pointer.values) if other is None else list(other.to(dtype).values)
    if other is None and mask is not None:
        watch.running.left_out += mask.values.count(False)
        if watch.running.poisoned:
            values = [dtype.poison] * len(values)
    memory = tensor.storage.values
    for lane, place in _allowed("load", pointer, mask):
        values[lane] = memory[place]
    return Tile(values, pointer.shape, dtype)


def store(pointer, value, mask=None, boundary_check=(), cache_modifier="", eviction_policy=""):
    """Write a value to each pointer, in the type of the tensor, where mask is not False."""
    _pointer(pointer, "store")
    pointer, mask, value = _together("store", pointer, mask=mask, value=value)
    if mask is not None and mask.dtype is not int1:
        raise ValueError(f"tl.store: the mask must be a comparison's result; got {mask.dtype}.")
    values, storage = value.to(pointer.dtype.element).values, pointer.dtype.tensor.storage
    for lane, place in _allowed("store", pointer, mask):
        storage.values[place] = values[lane]
        storage.unwritten.discard(place)


def atomic_add(pointer, val, mask=None, sem=None, scope=None):
    """Add to the elements at the pointers, none lost. Returns what was there before each, 0 where masked."""
    _pointer(pointer, "atomic_add")
    pointer, mask, val = _together("atomic_add", pointer, mask=mask, val=val)
    dtype, storage = pointer.dtype.element, pointer.dtype.tensor.storage
    if dtype.is_integer and dtype.bits < 32:
        raise ValueError(f"tl.atomic_add wants floats, or integers of 32 or 64 bits; got {dtype}.")
    added, before = val.to(dtype).values, [dtype.zero] * len(pointer.values)
    for lane, place in _allowed("atomic", pointer, mask):
        before[lane] = storage.values[place]
        storage.values[place] = dtype.fit([before[lane] + added[lane]])[0]
    count(len(before) if dtype.is_float else 0)
    return Tile(before, pointer.shape, dtype)


def _pointer(pointer, what):
    if not isinstance(pointer, Tile) or not isinstance(pointer.dtype, Pointer):
        raise ValueError(f"tl.{what} wants a pointer, an argument that is a tensor plus offsets; got {pointer!r:.60}.")
    if watch.running is None:
        raise RuntimeError(f"tl.{what} is for launched kernels: launch this one with kernel[grid](...).")


def _together(what, pointer, mask, **named):
    """Pointer, mask and the other one in one shape: where there is a value to write, that of the pointer."""
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
    """(lane, place in the storage) of the lanes that are wanted and lie in the tensor, after they were noted."""
    offsets, first = pointer.values, pointer.dtype.tensor.offset
    wanted = None if mask is None or all(mask.values) else [lane for lane, on in enumerate(mask.values) if on]
    if wanted is not None:
        offsets = [offsets[lane] for lane in wanted]
    inside = watch.running.inside(kind, pointer.dtype.of, offsets)
    return [(lane if wanted is None else wanted[lane], first + offsets[lane]) for lane in inside]
