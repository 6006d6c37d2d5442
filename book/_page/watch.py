"""What a launch does to memory: each load and store of each program, bytes and operations counted, faults named.

A launch passes if each lane lies in the tensor that its pointer came from, if no two programs write one element, and if
none reads what another writes: then no order of the programs can change the result. Where programs meet by atomic
additions alone, no addition is lost, and only the order of the roundings stays open: that is no finding.
"""

import contextlib
import itertools
import linecache
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = str(Path(__file__).parent)
# What an access of each kind is to another program's: (what is said, the other's kind).
CLASHES = {
    "load": (("read and written", "store"), ("read and written", "atomic")),
    "store": (("written twice", "store"), ("written twice", "atomic"), ("read and written", "load")),
    "atomic": (("written twice", "store"), ("read and written", "load")),
}


class Finding(NamedTuple):
    """What one line of a kernel does wrong with one tensor, where it was seen first.

    kind: "outside", "written twice" or "read and written"; access: "load", "store" or "atomic"; tensor: the argument's
    name; offset: of the element from the tensor's first, in elements; element: its indices, None outside; program: grid
    indices; other: the program that it meets, None for "outside"; lanes: how many did so in the launch.
    """

    kernel: str
    kind: str
    access: str
    tensor: str
    shape: tuple
    offset: int
    element: tuple | None
    program: tuple
    other: tuple | None
    lanes: int
    line: int
    code: str

    def __str__(self):
        verb = {"load": "reads", "store": "writes", "atomic": "changes"}[self.access]
        if self.kind == "outside":
            what = f"{verb} outside {self.tensor} of shape {self.shape}: {self.offset} elements after its first"
        else:
            meets = "writes" if self.access == "load" or self.kind == "written twice" else "reads"
            what = f"{verb} {self.tensor}{list(self.element)}, which program {self.other} {meets}"
        lanes = f"{self.lanes} lane{'s' * (self.lanes > 1)} in all"
        return f"{self.kernel}, program {self.program}, {lanes}\n    {what}\n    line {self.line}: {self.code}"


class Access(NamedTuple):
    """One load or store of one program. offsets: of the lanes inside, in elements from the tensor's first."""

    program: tuple
    kind: str
    tensor: str
    offsets: list
    bytes: int
    line: int


class Launch:
    """One launch. accesses: in the order of events; loaded, stored: bytes by argument; products: operations of matrix
    products, 2 · M · N · K each; operations: other arithmetic on floating-point numbers, one per lane; findings.
    left_out: lanes that a load's mask left out without `other`; poisoned: they hold no number.
    """

    def __init__(self, kernel, grid, tensors, poisoned=False):
        self.left_out, self.poisoned = 0, poisoned
        self.kernel, self.grid, self.tensors = kernel, grid, tensors
        self.program, self.programs = (0, 0, 0), 0
        self.accesses, self.findings = [], []
        self.loaded, self.stored, self.products, self.operations = Counter(), Counter(), 0, 0
        self._elements, self._marks = {}, {}

    def shape_of(self, name):
        return tuple(self.tensors[name].shape)

    def access_map(self, name, kind="load"):
        """How often each element of an argument was loaded, or stored: a flat list in the order of its elements."""
        counts = Counter()
        for access in self.accesses:
            if access.tensor == name and access.kind == kind:
                counts.update(access.offsets)
        first = self.tensors[name].offset
        return [counts[place - first] for place in self.tensors[name].places()]

    def inside(self, kind, name, offsets):
        """Note a load, store or atomic addition of these lanes. Returns the numbers of those in the tensor."""
        tensor = self.tensors[name]
        if name not in self._elements:
            self._elements[name] = {place - tensor.offset for place in tensor.places()}
        known, lanes = self._elements[name], range(len(offsets))
        line, code = _line_of_kernel()
        if not known.issuperset(offsets):
            stray = [offset for offset in offsets if offset not in known]
            self._note("outside", kind, name, stray[0], None, len(stray), line, code)
            lanes = [lane for lane in lanes if offsets[lane] in known]
            offsets = [offsets[lane] for lane in lanes]
        count = len(offsets) * tensor.dtype.bytes
        for each in ("load", "store") if kind == "atomic" else (kind,):
            (self.loaded if each == "load" else self.stored)[name] += count
            self.accesses.append(Access(self.program, each, name, offsets, count, line))
        self._races(kind, name, tensor, offsets, line, code)
        return lanes

    def _races(self, kind, name, tensor, offsets, line, code):
        """Name the other programs that this access clashes with, and mark what it touches."""
        me, storage = self.program, id(tensor.storage)
        places = [offset + tensor.offset for offset in offsets] if tensor.offset else offsets
        for what, other in CLASHES[kind]:
            marks = self._marks.get((storage, other))
            found = marks.others(places, me) if marks else ()
            if found:
                self._note(what, kind, name, found[0][0] - tensor.offset, found[0][1], len(found), line, code)
        self._marks.setdefault((storage, kind), _Marks()).mark(places, me, last=kind == "store")

    def _note(self, what, kind, name, offset, other, lanes, line, code):
        for number, known in enumerate(self.findings):
            if (known.kind, known.tensor, known.line) == (what, name, line):
                self.findings[number] = known._replace(lanes=known.lanes + lanes)
                return
        tensor, element = self.tensors[name], None
        if what != "outside":
            rest, place = [], tensor.places().index(offset + tensor.offset)
            for size in reversed(tensor.shape):
                place, index = divmod(place, size)
                rest.append(index)
            element = tuple(reversed(rest))
        shape = tuple(tensor.shape)
        self.findings.append(
            Finding(self.kernel, what, kind, name, shape, offset, element, self.program, other, lanes, line, code)
        )


class _Marks(dict):
    """Place: a program that touched it. second: another one, where there is one."""

    def __init__(self):
        self.second = {}

    def mark(self, places, me, last):
        """Mark as touched by me: `last` keeps the last program alone, for two that write are named at once."""
        if last:
            self.update(dict.fromkeys(places, me))
            return
        first = list(map(self.setdefault, places, itertools.repeat(me)))
        if first.count(me) < len(first):
            self.second.update((place, me) for place, who in zip(places, first, strict=True) if who != me)

    def others(self, places, me):
        """(place, another program that touched it) of each place that has one."""
        touched = list(map(self.get, places, itertools.repeat(me)))
        if not self.second and touched.count(me) == len(touched):
            return []
        found = []
        for place, who in zip(places, touched, strict=True):
            who = self.second.get(place, me) if who == me else who
            if who != me:
                found.append((place, who))
        return found


def _line_of_kernel():
    """(line, code) of the kernel that is running: of the innermost frame that is not this package's."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    if frame is None:
        return 0, ""
    return frame.f_lineno, linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()


class Run:
    """What the launches inside a `watched()` did, together. launches: one after another."""

    def __init__(self, poisoned=False):
        self.launches, self.poisoned = [], poisoned

    findings = property(lambda self: [each for launch in self.launches for each in launch.findings])
    loaded = property(lambda self: sum(launch.loaded.total() for launch in self.launches))
    stored = property(lambda self: sum(launch.stored.total() for launch in self.launches))
    products = property(lambda self: sum(launch.products for launch in self.launches))
    operations = property(lambda self: sum(launch.operations for launch in self.launches))
    left_out = property(lambda self: sum(launch.left_out for launch in self.launches))


runs = []  # the watches that are on
running = None  # the launch that is running


@contextlib.contextmanager
def watched(poisoned=False):
    """Gather what the launches inside the `with` do: `with watched() as run: ...`.

    poisoned: the lanes that a load's mask leaves out without `other` hold nan, or a whole number at the end of its
    range, so that a kernel that uses them gives something else: on a GPU they may hold anything.
    """
    run = Run(poisoned)
    runs.append(run)
    try:
        yield run
    finally:
        runs.remove(run)
