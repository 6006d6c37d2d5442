"""How far the Triton of the page is from Triton's interpreter, on the kernels of the chapters.

What is compared are the kernels as their pages show them: each exercise's solution over all of its hidden cases, and
each other kernel over its LAUNCHES. tests/page holds them to it; book/measurements/page/run_equality.py records it.
"""

import contextlib
import functools
import math
import re
import sys
from typing import NamedTuple

import lab_shown
import lab_vendor
import torch
from lab_found import joined, kernels_of
from lab_shown import IMPORTS, LAUNCHES

from effattn_core.exercises import grade

sys.path.append(str(lab_vendor.BOOK))
from _page import Tensor, load_source, unwritten, watched  # noqa: E402
from _page.dtypes import ALL, ROUNDED  # noqa: E402
from _page.memory import Storage  # noqa: E402

TYPES = {dtype.name: dtype for dtype in ALL}
EPSILON = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
LARGE = 1 << 20  # elements of a storage of which only those in sight are copied


class Cell(NamedTuple):
    """page: of the book; text: the functions of a cell, or of a few; kernels: those marked jit; graded: (exercise,
    function) of its last line, or None.
    """

    page: str
    text: str
    kernels: tuple
    graded: tuple | None


@functools.cache
def cells():
    """Each cell with a kernel, together with the cells after it up to the one that grades what they define."""
    found = []
    for path in sorted(lab_vendor.BOOK.glob("*/*.md")):
        text = path.read_text(encoding="utf-8")
        blocks = [_parsed(block) for block in re.findall(r"```\{code-cell\}[^\n]*\n(.*?)```", text, re.S)]
        for number, (functions, kernels, graded) in enumerate(blocks):
            if not kernels:
                continue
            following, last = dict(functions), graded
            for more, others, then in blocks[number + 1 : number + 3]:
                if last or others:
                    break
                following |= more
                last = then
            if not last or last[1] not in following:
                following, last = {name: functions[name] for name in kernels}, None
            found.append(Cell(path.stem, IMPORTS + joined(following.values()), tuple(kernels), last))
    return found


def _parsed(block):
    """(its functions, the names of its kernels, (exercise, function) that it grades or None) of a cell."""
    block = re.sub(r"^---\n.*?\n---\n", "", block, flags=re.S)
    graded = re.search(r'^assert grade\("([\w.]+)", (\w+)\)', block, re.M)
    return *kernels_of(block), graded and (graded[1], graded[2])


def solutions():
    """The kernels that a check grades, by the exercise's name."""
    return {cell.graded[0]: cell for cell in cells() if cell.graded}


def shown():
    """The kernels that no check grades, by page and name."""
    return {f"{cell.page}.{name}": cell for cell in cells() if not cell.graded for name in cell.kernels}


def in_triton(cell, folder):
    """The names that a cell defines, with Triton itself and PyTorch."""
    return lab_shown.in_triton(cell.text, f"{cell.page}_{cell.kernels[0]}", folder)


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
        address, dtype = source.untyped_storage().data_ptr(), _dtype(source)
        size = source.untyped_storage().nbytes() // source.element_size()
        storage = self.storages.get((address, dtype))
        if storage is None:
            whole = source.as_strided((size,), (1,), 0).tolist() if size <= LARGE else {}
            storage = self.storages[address, dtype] = Storage(whole, dtype)
        copy = Tensor(storage, source.shape, source.stride(), source.storage_offset())
        if size > LARGE:
            storage.values.update(zip(copy.places(), source.flatten().tolist(), strict=True))
        return copy


def _dtype(source):
    return TYPES[str(source.dtype).removeprefix("torch.")]


def _numbers(source):
    if isinstance(source, torch.Tensor):
        return source.detach().flatten().tolist()
    return [source.storage.values[place] for place in source.places()]


@contextlib.contextmanager
def unrounded():
    """The page computes in 64 bits inside: what a kernel would give if nothing were rounded."""
    kept = ROUNDED.copy()
    ROUNDED.update(dict.fromkeys(("float16", "bfloat16", "float32"), list))
    try:
        yield
    finally:
        ROUNDED.update(kept)


def roundings(wanted, got, exactly=True):
    """The largest difference, in roundings of the largest finite number of each tensor; inf if anything else differs.

    wanted, got: tensors of PyTorch or of the page, or tuples of them; what is no tensor counts for nothing. Integers,
    infinities and nan must agree, or if not `exactly` they count for nothing.
    """
    if isinstance(wanted, (tuple, list)):
        assert len(wanted) == len(got)
        return max((roundings(*pair, exactly) for pair in zip(wanted, got, strict=True)), default=0.0)
    if not isinstance(wanted, (torch.Tensor, Tensor)):
        return 0.0
    dtype = _dtype(wanted)
    assert (dtype, tuple(wanted.shape)) == (_dtype(got), tuple(got.shape))
    there, here = _numbers(wanted), _numbers(got)
    if dtype.is_integer:
        return 0.0 if not exactly or here == there else math.inf
    there, here = (torch.tensor(each, dtype=torch.float64) for each in (there, here))
    finite = here.isfinite() & there.isfinite()
    if exactly and not torch.equal(here[~finite].nan_to_num(7.0), there[~finite].nan_to_num(7.0)):
        return math.inf
    if not finite.any():
        return 0.0
    error, scale = (here - there)[finite].abs().max().item(), there[finite].abs().max().item()
    return error / (EPSILON[dtype.name] * scale) if scale else error and math.inf


class Both:
    """A launcher, or with [grid] a kernel, that is called in Triton and on the page, and gives what Triton gives.

    distances: of each call the roundings between Triton and the page, between Triton and what the page would give if
    nothing were rounded, and between the page and that. runs: of the page; blank: what no program of it wrote.
    """

    def __init__(self, cell, name, folder):
        self.theirs, self.ours = in_triton(cell, folder)[name], load_source(cell.text)[name]
        self.distances, self.runs, self.blank = [], [], []

    def __call__(self, *arguments):
        return self._call(lambda function, given: function(*given), arguments)

    def __getitem__(self, grid):
        return lambda *arguments: self._call(lambda function, given: function[grid](*given) and None, arguments)

    def _call(self, call, arguments):
        here, free = Copies()(arguments), Copies()(arguments)
        with unrounded():
            exact = call(self.ours, free), free
        with watched() as run:
            got = call(self.ours, here), here
        wanted = call(self.theirs, arguments), arguments
        lost = (roundings(each, exact, exactly=False) for each in (wanted, got))
        self.distances.append((roundings(wanted, got), *lost))
        self.runs.append(run)
        results = got[0] if isinstance(got[0], tuple) else (got[0],)
        self.blank += [index for each in results if isinstance(each, Tensor) for index in unwritten(each)]
        return wanted[0]

    def most(self):
        """The largest of each of `distances`."""
        return tuple(map(max, zip(*self.distances, strict=True)))


def solved(name, folder):
    """(the Both, the verdict) of an exercise's solution, called on its hidden cases."""
    both = Both(solutions()[name], solutions()[name].graded[1], folder)
    return both, grade(name, both)


def launched(name, folder):
    """The Both of a shown kernel, "page.kernel", after its LAUNCHES."""
    both = Both(shown()[name], name.partition(".")[2], folder)
    for grid, arguments in LAUNCHES[name]:
        both[grid](*(each.clone() if isinstance(each, torch.Tensor) else each for each in arguments))
    return both
