"""The same call on Triton's interpreter and on the page, and how far apart the results are."""

import contextlib
import math

import torch
from _page import Tensor
from _page.dtypes import ALL, ROUNDED
from _page.memory import Storage

EPSILON = {torch.float16: 2.0**-10, torch.float32: 2.0**-23, torch.float64: 2.0**-52}
LARGE = 1 << 20  # elements of a storage of which only those in sight are copied
TYPES = {dtype.name: dtype for dtype in ALL}


class Copies:
    """PyTorch's tensors on the page: views of one storage stay views of one."""

    def __init__(self):
        self.storages = {}

    def __call__(self, value):
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self, value))
        return value

    def _tensor(self, source):
        address, dtype = source.untyped_storage().data_ptr(), TYPES[str(source.dtype).removeprefix("torch.")]
        size = source.untyped_storage().nbytes() // source.element_size()
        storage = self.storages.get((address, dtype))
        if storage is None:
            whole = source.as_strided((size,), (1,), 0).tolist() if size <= LARGE else {}
            storage = self.storages[address, dtype] = Storage(whole, dtype)
        copy = Tensor(storage, source.shape, source.stride(), source.storage_offset())
        if size > LARGE:
            storage.values.update(zip(copy.places(), source.flatten().tolist(), strict=True))
        return copy


@contextlib.contextmanager
def unrounded():
    """The page computes in 64 bits inside: what a kernel would give if nothing were rounded."""
    kept = ROUNDED.copy()
    ROUNDED.update({16: list, 32: list})
    try:
        yield
    finally:
        ROUNDED.update(kept)


def roundings(wanted, got, exactly=True):
    """The largest difference, in roundings of the largest finite number of each tensor; inf if anything else differs.

    wanted: what Triton gave, a tensor or a tuple of them; got: the page's. Integers, infinities and nan must agree, or
    if not `exactly` they count for nothing.
    """
    if isinstance(wanted, (tuple, list)):
        assert len(wanted) == len(got)
        return max((roundings(*pair, exactly) for pair in zip(wanted, got, strict=True)), default=0.0)
    if not isinstance(wanted, torch.Tensor):
        return 0.0
    assert (str(wanted.dtype), tuple(wanted.shape)) == (f"torch.{got.dtype}", tuple(got.shape))
    there, here = wanted.detach().flatten(), [got.storage.values[place] for place in got.places()]
    if not wanted.dtype.is_floating_point:
        return 0.0 if not exactly or here == there.tolist() else math.inf
    here, there = torch.tensor(here, dtype=torch.float64), there.double()
    finite = here.isfinite() & there.isfinite()
    if exactly and not torch.equal(here[~finite].nan_to_num(7.0), there[~finite].nan_to_num(7.0)):
        return math.inf
    if not finite.any():
        return 0.0
    error, scale = (here - there)[finite].abs().max().item(), there[finite].abs().max().item()
    return error / (EPSILON[wanted.dtype] * scale) if scale else error and math.inf
