"""What an interpreted launch loads, stores and multiplies: counted lane by lane, masked-off lanes left out.

Beside `kernels.poison` the only file that touches the internals of Triton's interpreter. They change between releases:
tests hold canaries, and a version without the expected methods gives a sentence. `kernels.sanitize` judges what
`guarded` shows it.
"""

import contextlib
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from kernels import runtime

# Of the interpreter's builder. The unmasked forms, descriptors and atomic loads and stores call the masked ones.
METHODS = ("create_masked_load", "create_masked_store", "create_dot")
GRID_METHODS = ("set_grid_dim", "set_grid_idx")
ATOMIC_METHODS = ("create_atomic_rmw", "create_atomic_cas")


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
    builder = _interpreter("traced").InterpreterBuilder
    if _active is not None:
        raise RuntimeError("a trace is already being taken: end it before another begins.")
    traffic = Traffic(tensors)
    with _replaced(builder, METHODS, lambda kept: _counters(traffic, kept)):
        _active = traffic
        try:
            yield traffic
        finally:
            _active = None


def _interpreter(what):
    """Triton's interpreter. Raises RuntimeError with a sentence where kernels are not interpreted."""
    if runtime.mode != "interpreter":
        raise RuntimeError(f"only interpreted kernels can be {what}; here they are not, because {runtime.reason}.")
    from triton.runtime import interpreter

    return interpreter


@contextlib.contextmanager
def _replaced(owner, names, wrappers):
    """The attributes of a class or module give way to `wrappers(kept)`, a dict, inside the `with`."""
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        raise RuntimeError(f"this Triton's interpreter has no {missing[0]}: kernels.trace knows Triton 3.9's.")
    kept = {name: getattr(owner, name) for name in names}
    for name, wrapper in wrappers(kept).items():
        setattr(owner, name, wrapper)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(owner, name, method)


def _element_size(pointers):
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _lanes(pointers, mask):
    return np.broadcast_to(mask.data, pointers.data.shape).astype(bool)


def _program(builder):
    return tuple(int(index) for index in builder.grid_idx)


def _counters(traffic, kept):
    """The interpreter's methods, each counting before it does what it did."""

    def count(kind, builder, pointers, mask):
        addresses = pointers.data[_lanes(pointers, mask)].astype(np.int64).reshape(-1)
        traffic._count(kind, addresses, _element_size(pointers), _program(builder))

    def masked_load(self, pointers, mask, *rest, **named):
        count("load", self, pointers, mask)
        return kept["create_masked_load"](self, pointers, mask, *rest, **named)

    def masked_store(self, pointers, value, mask, *rest, **named):
        count("store", self, pointers, mask)
        return kept["create_masked_store"](self, pointers, value, mask, *rest, **named)

    def dot(self, left, right, *rest, **named):
        *batch, rows, inner = left.data.shape
        traffic.flops += 2 * int(np.prod(batch, dtype=np.int64)) * rows * inner * right.data.shape[-1]
        return kept["create_dot"](self, left, right, *rest, **named)

    return {"create_masked_load": masked_load, "create_masked_store": masked_store, "create_dot": dot}


@contextlib.contextmanager
def shuffled(seed=0):
    """The programs of each interpreted launch inside the `with` run once each, in an order drawn from `seed`.

    A GPU promises no order either: a kernel whose result depends on it is wrong, and in file order may look right.
    """
    builder = _interpreter("shuffled").InterpreterBuilder
    generator, waiting = np.random.default_rng(seed), []

    def wrappers(kept):
        def set_grid_dim(self, *sizes):
            kept["set_grid_dim"](self, *sizes)
            order = generator.permutation(int(np.prod(sizes, dtype=np.int64)))
            waiting[:] = zip(*(axis.tolist() for axis in np.unravel_index(order, sizes)), strict=True)

        def set_grid_idx(self, *index):
            kept["set_grid_idx"](self, *waiting.pop())

        return {"set_grid_dim": set_grid_dim, "set_grid_idx": set_grid_idx}

    with _replaced(builder, GRID_METHODS, wrappers):
        yield


@contextlib.contextmanager
def launched():
    """The names of the kernels that are launched inside the `with`, a set that grows."""
    interpreter, names = _interpreter("watched"), set()

    def wrappers(kept):
        def launch(self, *arguments, **named):
            names.add(self.fn.__name__)
            return kept["__call__"](self, *arguments, **named)

        return {"__call__": launch}

    with _replaced(interpreter.GridExecutor, ("__call__",), wrappers):
        yield names


# Under guard each tensor argument has an address space of its own, this many bytes wide, with the tensor at its middle:
# a lane that strays lands in no other tensor, however close they lie in memory, and says which argument it came from.
SPACE = 1 << 44


@contextlib.contextmanager
def guarded(guard):
    """Let `guard` see every interpreted launch inside the `with`, and every load and store before it happens.

    guard.begin(kernel, tensors): a launch starts; tensors: by argument name.
    guard.allow(kind, name, offsets, size, program): "load" or "store" of `size` bytes at these offsets in bytes from
    the start of the tensor `name` (None: an address that no argument gave); returns which may happen, bool. The rest
    is masked off, so that nothing outside the tensors is touched.
    """
    interpreter, spaces = _interpreter("sanitized"), []

    def begin(kept):
        def init_args(self, arguments, named):
            on_host, named_on_host = kept["_init_args_hst"](self, arguments, named)
            given = dict(zip(self.arg_names, on_host, strict=False)) | named_on_host
            tensors = {name: each for name, each in given.items() if hasattr(each, "data_ptr")}
            spaces[:] = [(name, each, each.data_ptr()) for name, each in tensors.items()]
            guard.begin(self.fn.__name__, tensors)
            return on_host, named_on_host

        return {"_init_args_hst": init_args}

    def place(kept):
        def convert(argument):
            placed = kept["_implicit_cvt"](argument)
            for number, (_, tensor, address) in enumerate(spaces):
                if tensor is argument:
                    placed.handle.data = np.array([_start(number, address)], dtype=np.uint64)
            return placed

        return {"_implicit_cvt": convert}

    def check(builder, kind, pointers, mask):
        """The pointers where the tensors really are, and the mask without the lanes that may not happen."""
        lanes, places = _lanes(pointers, mask).copy(), pointers.data.astype(np.int64)
        real = np.zeros_like(places)
        for number in np.unique(places[lanes] // SPACE):
            here = lanes & (places // SPACE == number)
            name, _, address = spaces[number] if 0 <= number < len(spaces) else (None, None, 0)
            offsets = places[here] - (_start(number, address) if name else 0)
            lanes[here] = guard.allow(kind, name, offsets, _element_size(pointers), _program(builder))
            real[here] = address + offsets
        return type(pointers)(real.astype(np.uint64), pointers.dtype), type(mask)(lanes, mask.dtype)

    def accesses(kept):
        def masked_load(self, pointers, mask, *rest, **named):
            pointers, mask = check(self, "load", pointers, mask)
            return kept["create_masked_load"](self, pointers, mask, *rest, **named)

        def masked_store(self, pointers, value, mask, *rest, **named):
            pointers, mask = check(self, "store", pointers, mask)
            return kept["create_masked_store"](self, pointers, value, mask, *rest, **named)

        def atomic_rmw(self, operation, pointers, value, mask, *rest, **named):
            pointers, mask = check(self, "store", pointers, mask)
            return kept["create_atomic_rmw"](self, operation, pointers, value, mask, *rest, **named)

        def atomic_cas(self, *rest, **named):
            raise NotImplementedError("a compare-and-swap has no mask: the sanitizer does not judge it.")

        return dict(zip(names, (masked_load, masked_store, atomic_rmw, atomic_cas), strict=True))

    names = (*METHODS[:2], *ATOMIC_METHODS)
    with (
        _replaced(interpreter.GridExecutor, ("_init_args_hst",), begin),
        _replaced(interpreter, ("_implicit_cvt",), place),
        _replaced(interpreter.InterpreterBuilder, names, accesses),
    ):
        yield


def _start(number, address):
    """Where the tensor of space `number` seems to begin; its alignment stays what it is."""
    return number * SPACE + SPACE // 2 + address % 4096


def kernel_line():
    """(file, line) of the kernel's code that is being interpreted now, the innermost function's: (None, 0) outside."""
    import triton

    apart = (str(Path(triton.__file__).parent), str(Path(__file__).parent / "trace.py"))
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") != "kernels.sanitize" and not frame.f_code.co_filename.startswith(apart):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None, 0
