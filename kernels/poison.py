"""The lanes that a load's mask leaves out without `other`: a GPU promises no value there, where the interpreter has 0.

Beside `kernels.trace` the only file that touches the internals of Triton's interpreter.
"""

import contextlib

import numpy as np

from kernels.trace import _interpreter, _replaced


class LeftOut:
    """lanes: how many lanes the masks of loads left out without `other`, so that they hold anything."""

    lanes = 0


@contextlib.contextmanager
def left_out(poisoned=False):
    """Count the lanes that masks of interpreted loads leave out without `other`: a GPU promises no value there.

    poisoned: inside the `with` they hold nan, or a whole number at the end of its range, in place of the interpreter's
    0, so that a kernel that uses them gives something else. Yields a LeftOut, whose `lanes` grow.
    """
    _interpreter("poisoned")
    from triton.language.semantic import TritonSemantic

    found = LeftOut()

    def wrappers(kept):
        def load(self, pointer, mask, other, *rest, **named):
            loaded = kept["load"](self, pointer, mask, other, *rest, **named)
            if other is None and mask is not None:
                held = loaded.handle.data
                out = ~np.broadcast_to(mask.handle.data, held.shape).astype(bool)
                found.lanes += int(out.sum())
                if poisoned and out.any():
                    loaded.handle.data = held.copy()
                    loaded.handle.data[out] = _poison(held.dtype, loaded.dtype.scalar)
            return loaded

        return {"load": load}

    # Not of the builder, which gets no `other` where it is one 0.
    with _replaced(TritonSemantic, ("load",), wrappers):
        yield found


def _poison(held, element):
    """What no kernel takes for a number of its own. held: numpy's type; element: Triton's, whose bits it may be."""
    if held.kind == "f":
        return np.nan
    if element.is_floating():  # bfloat16, and floats of 8 bits: numpy has their bits alone
        return 0x7FC0 if held.itemsize == 2 else 0x7F
    if held.kind == "b":
        return True
    # Odd numbers: of the lowest an even count adds up to 0.
    return np.iinfo(held).min + 1 if held.kind == "i" else np.iinfo(held).max
