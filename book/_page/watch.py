"""What a launch does to memory: each load and store of each program, bytes and operations counted, faults named.

A launch passes if each lane lies in the tensor that its pointer came from, if no two programs write one element, and if
none reads what another writes: then no order of the programs can change the result.
"""

import contextlib
import linecache
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = str(Path(__file__).parent)


class Finding(NamedTuple):
    """What one line of a kernel does wrong with one tensor, where it was seen first.

    kind: "outside", "written twice" or "read and written"; access: "load" or "store"; tensor: the argument's name;
    offset: of the element from the tensor's first, in elements; element: its indices, None outside; program: grid
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
        verb = {"load": "reads", "store": "writes"}[self.access]
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
    """

    def __init__(self, kernel, grid, tensors):
        self.kernel, self.grid, self.tensors = kernel, grid, tensors
        self.program, self.programs = (0, 0, 0), 0
        self.accesses, self.findings = [], []
        self.loaded, self.stored, self.products, self.operations = Counter(), Counter(), 0, 0
        self._elements, self._writer, self._reader, self._second = {}, {}, {}, {}

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
        """Note a load or store of these lanes. Returns, lane by lane, whether it lies in the tensor."""
        tensor = self.tensors[name]
        if name not in self._elements:
            self._elements[name] = {place - tensor.offset for place in tensor.places()}
        known = self._elements[name]
        within = [offset in known for offset in offsets]
        line, code = _line_of_kernel()
        if not all(within):
            stray = [offset for offset, good in zip(offsets, within, strict=True) if not good]
            self._note("outside", kind, name, stray[0], None, len(stray), line, code)
        kept = [offset for offset, good in zip(offsets, within, strict=True) if good]
        count = len(kept) * tensor.dtype.bytes
        (self.loaded if kind == "load" else self.stored)[name] += count
        self.accesses.append(Access(self.program, kind, name, kept, count, line))
        self._races(kind, name, tensor, kept, line, code)
        return within

    def _races(self, kind, name, tensor, offsets, line, code):
        me, storage = self.program, id(tensor.storage)
        writer, reader, second = (each.setdefault(storage, {}) for each in (self._writer, self._reader, self._second))
        twice, meets = [], []
        for offset in offsets:
            place = offset + tensor.offset
            if writer.get(place, me) != me:
                (meets if kind == "load" else twice).append((offset, writer[place]))
            if kind == "load":
                if reader.setdefault(place, me) != me:
                    second[place] = me
            else:
                read = reader.get(place, me)
                other = second.get(place, me) if read == me else read
                if other != me:
                    meets.append((offset, other))
                writer[place] = me
        for what, found in (("written twice", twice), ("read and written", meets)):
            if found:
                self._note(what, kind, name, found[0][0], found[0][1], len(found), line, code)

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

    def __init__(self):
        self.launches = []

    findings = property(lambda self: [each for launch in self.launches for each in launch.findings])
    loaded = property(lambda self: sum(launch.loaded.total() for launch in self.launches))
    stored = property(lambda self: sum(launch.stored.total() for launch in self.launches))
    products = property(lambda self: sum(launch.products for launch in self.launches))
    operations = property(lambda self: sum(launch.operations for launch in self.launches))


runs = []  # the watches that are on
running = None  # the launch that is running


@contextlib.contextmanager
def watched():
    """Gather what the launches inside the `with` do: `with watched() as run: ...`."""
    run = Run()
    runs.append(run)
    try:
        yield run
    finally:
        runs.remove(run)
