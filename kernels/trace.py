"""What an interpreted launch loads, stores and multiplies: counted lane by lane, masked-off lanes left out.

The only file that touches the internals of Triton's interpreter. They change between releases: a test holds a canary,
and a version without the expected methods gives a sentence.
"""

import contextlib
from collections import Counter

import numpy as np

from kernels import runtime

METHODS = ("create_masked_load", "create_masked_store", "create_dot")  # the unmasked forms call the masked ones


class Traffic:
    """What was counted. loaded, stored: bytes by tensor name; flops: of matrix products, 2 · M · N · K each.

    programs: (program id, tensor name, "load" or "store", bytes) in the order of events.
    """

    def __init__(self, tensors):
        self.tensors = tensors
        self.loaded, self.stored, self.flops, self.programs = Counter(), Counter(), 0, []
        self._reads = {name: np.zeros(tensor.numel(), dtype=np.int64) for name, tensor in tensors.items()}
        self._places = {name: _addresses(tensor) for name, tensor in tensors.items()}

    @property
    def loaded_bytes(self):
        return sum(self.loaded.values())

    @property
    def stored_bytes(self):
        return sum(self.stored.values())

    def access_map(self, name):
        """How often each element was loaded: int array of the tensor's shape. Raises KeyError for a name not given."""
        if name not in self._reads:
            raise KeyError(f"{name} was not given to trace(); it knows {sorted(self._reads)}.")
        return self._reads[name].reshape(tuple(self.tensors[name].shape))

    def _count(self, kind, addresses, size, program):
        left = addresses
        for name, (ordered, places) in self._places.items():
            if not left.size:
                return
            at = np.minimum(np.searchsorted(ordered, left), max(len(ordered) - 1, 0))
            hit = ordered[at] == left if len(ordered) else np.zeros(left.shape, dtype=bool)
            if hit.any():
                self._note(kind, name, int(hit.sum()) * size, program)
                if kind == "load":
                    np.add.at(self._reads[name], places[at[hit]], 1)
                left = left[~hit]
        if left.size:
            self._note(kind, "unnamed", left.size * size, program)

    def _note(self, kind, name, amount, program):
        (self.loaded if kind == "load" else self.stored)[name] += amount
        self.programs.append((program, name, kind, amount))


def _addresses(tensor):
    """The address of each element, sorted, and its place in the flattened tensor: strides are honoured."""
    offsets = np.zeros(tuple(tensor.shape), dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        shape = [1] * tensor.ndim
        shape[axis] = size
        offsets = offsets + (np.arange(size, dtype=np.int64) * stride).reshape(shape)
    flat = tensor.data_ptr() + offsets.reshape(-1) * tensor.element_size()
    order = np.argsort(flat, kind="stable")
    return flat[order], order


_active = None


@contextlib.contextmanager
def trace(**tensors):
    """Count the traffic of the interpreted launches inside the `with`: `with trace(query=query) as traffic: ...`.

    tensors: named, to be told apart; traffic with others is counted as "unnamed". Raises RuntimeError with a sentence
    where kernels are not interpreted, where traces are nested, or for an interpreter that this file does not know.
    """
    global _active
    if runtime.mode != "interpreter":
        raise RuntimeError(f"only interpreted kernels can be traced; here they are not, because {runtime.reason}.")
    if _active is not None:
        raise RuntimeError("a trace is already being taken: end it before another begins.")
    from triton.runtime.interpreter import InterpreterBuilder

    missing = [name for name in METHODS if not hasattr(InterpreterBuilder, name)]
    if missing:
        raise RuntimeError(f"this Triton's interpreter has no {missing[0]}: kernels.trace knows Triton 3.9's.")
    kept = {name: getattr(InterpreterBuilder, name) for name in METHODS}
    _active = Traffic(tensors)
    for name, wrapper in _wrappers(_active, kept).items():
        setattr(InterpreterBuilder, name, wrapper)
    try:
        yield _active
    finally:
        _active = None
        for name, method in kept.items():
            setattr(InterpreterBuilder, name, method)


def _wrappers(traffic, kept):
    """The interpreter's methods, each counting before it does what it did."""

    def element_size(pointers):
        return pointers.get_element_ty().primitive_bitwidth // 8

    def program(builder):
        return tuple(int(index) for index in builder.grid_idx)

    def masked_load(self, pointers, mask, *rest, **named):
        addresses = pointers.data[np.broadcast_to(mask.data, pointers.data.shape).astype(bool)]
        traffic._count("load", addresses.astype(np.int64).reshape(-1), element_size(pointers), program(self))
        return kept["create_masked_load"](self, pointers, mask, *rest, **named)

    def masked_store(self, pointers, value, mask, *rest, **named):
        addresses = pointers.data[np.broadcast_to(mask.data, pointers.data.shape).astype(bool)]
        traffic._count("store", addresses.astype(np.int64).reshape(-1), element_size(pointers), program(self))
        return kept["create_masked_store"](self, pointers, value, mask, *rest, **named)

    def dot(self, left, right, *rest, **named):
        *batch, rows, inner = left.data.shape
        traffic.flops += 2 * int(np.prod(batch, dtype=np.int64)) * rows * inner * right.data.shape[-1]
        return kept["create_dot"](self, left, right, *rest, **named)

    return {"create_masked_load": masked_load, "create_masked_store": masked_store, "create_dot": dot}
