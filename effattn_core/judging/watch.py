"""A reader's launcher, run under watch: what it returned, what it left unwritten, and which lanes went astray."""

import contextlib
from typing import NamedTuple

import numpy as np
import torch

from kernels import runtime
from kernels.poison import left_out
from kernels.sanitize import sanitize
from kernels.trace import guarded, trace

FAR = 2**31  # elements: the first offset that 32 bits do not hold


class Watched(NamedTuple):
    """result: what was returned; findings: the sanitizer's, none where kernels are compiled; launches: None there.

    stored: `kernels.sanitize.Findings.stored`, None there. left_out: lanes that a load's mask left out without `other`.
    """

    result: object
    findings: list
    launches: int | None
    stored: dict | None
    left_out: int = 0


def watch(call, poisoned=False):
    """Run `call()` with every torch.empty full of NaN and, where kernels are interpreted, under the sanitizer.

    poisoned: there the lanes that a load's mask leaves out without `other` hold no number (`kernels.poison.left_out`).
    """
    results, findings, launches, stored, lanes = [], [], None, None, 0

    def counting():
        nonlocal lanes
        with left_out(poisoned) as found:
            results.append(call())
        lanes = found.lanes

    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills what torch.empty gives
    try:
        if runtime.mode == "interpreter":
            with np.errstate(all="ignore"):  # an overflow is the verdict's to tell
                found = sanitize(counting)
            findings, launches, stored = list(found), found.launches.total(), found.stored
        else:
            results.append(call())
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
    return Watched(results[0], findings, launches, stored, lanes)


def copied(arguments):
    """Arguments whose tensors have the same numbers and strides in memory of their own; views of one share one."""
    storages = {}

    def copy(value):
        if not isinstance(value, torch.Tensor):
            return value
        whole = value.untyped_storage()
        if whole.data_ptr() not in storages:
            storages[whole.data_ptr()] = whole.clone()
        mine = storages[whole.data_ptr()]
        return value.new_empty(0).set_(mine, value.storage_offset(), value.shape, value.stride())

    return [copy(each) for each in arguments]


def unwritten(result, stored):
    """The indices of elements that nobody wrote: as `watch` has torch.empty fill them, and stored to by no launch.

    stored: of Watched; where it is None, those that are as torch.empty filled them: nan, or the largest whole number.
    """
    if not isinstance(result, torch.Tensor) or result.dtype == torch.bool:
        return []
    floats = result.dtype.is_floating_point
    holes = result.isnan() if floats else result == torch.iinfo(result.dtype).max
    if stored is None or not holes.any():
        return holes.nonzero().tolist()
    _, known = stored.get(result.untyped_storage().data_ptr(), (None, None))
    if known is None and not holes.all():  # PyTorch computed it
        return []
    if known is not None:
        whole = torch.from_numpy(known.view(np.uint8)).view(-1, result.element_size()).amax(1)
        holes &= whole.as_strided(result.shape, result.stride(), result.storage_offset()) == 0
    return holes.nonzero().tolist()


@contextlib.contextmanager
def counted(tensors):
    """How often each element of some tensors, by number, is loaded inside the `with`: a dict that is full at its end.

    It stays empty where there are none, and where kernels are compiled.
    """
    loads = {}
    if not tensors or runtime.mode != "interpreter":
        yield loads
        return
    with trace(**{f"argument_{number}": each for number, each in tensors.items()}) as traffic:
        yield loads
    for number, each in tensors.items():
        loads[number] = traffic.loaded[f"argument_{number}"] / (each.element_size() * each.numel())


def far_rows(rows, columns):
    """A float16 tensor whose last row begins 2^31 elements after the first; None where memory for it is not given.

    The system hands out the 4 GiB page by page as they are written: 3 pages for 3 rows.
    """
    stride = FAR // (rows - 1)
    try:
        memory = np.empty(stride * (rows - 1) + columns, dtype=np.float16)
    except MemoryError:
        return None
    return torch.from_numpy(memory).as_strided((rows, columns), (stride, 1))


class _Extents:
    """What `kernels.trace.guarded` asks: keeps lanes within each tensor's extent. strayed: the first offset outside."""

    def __init__(self):
        self.extent, self.strayed = {}, None

    def begin(self, kernel, tensors):
        self.extent = {name: _extent(tensor) for name, tensor in tensors.items()}

    def allow(self, kind, name, offsets, size, program):
        inside = (offsets >= 0) & (offsets < self.extent.get(name, 0))
        if self.strayed is None and not inside.all():
            self.strayed = int(offsets[~inside][0]) // size
        return inside


def _extent(tensor):
    """Bytes from the first element of a view to the end of its last."""
    if not tensor.numel():
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()


def strayed(call):
    """(result, the first offset in elements that left its tensor or None) of an interpreted call, lanes kept inside."""
    guard = _Extents()
    with guarded(guard), np.errstate(over="ignore"):
        result = call()
    return result, guard.strayed


def moved(call):
    """(bytes loaded, bytes stored) by the interpreted launches of `call()`; None where kernels are compiled."""
    if runtime.mode != "interpreter":
        return None
    with trace() as traffic:
        call()
    return traffic.loaded_bytes, traffic.stored_bytes
