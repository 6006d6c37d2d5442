"""Proof, without a GPU, that a launch is safe on one: watched in the interpreter, lane by lane, program by program.

A launch passes if each lane of each load and store lies in the tensor that its pointer came from, if no two programs
write the same element, and if none reads what another writes. Then no order of the programs can change the result, and
what the interpreter computes one program after another is what a GPU computes all at once. A proof holds for the shapes
that were launched, masks and strides included; it says nothing of the threads inside one program, which are Triton's.
"""

import linecache
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from kernels.trace import guarded, kernel_line, shuffled

__all__ = ["Finding", "Findings", "sanitize", "scattered", "shuffled"]


class Finding(NamedTuple):
    """What one line of a kernel does wrong with one tensor, where it was seen first.

    kind: "outside", "written twice" or "read and written"; access: "load" or "store"; tensor: the argument's name;
    offset: of the element from the tensor's first, in elements; element: its indices, None outside; program: grid
    indices; other: the program that it meets, None for "outside"; lanes: how many did so in the whole call.
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
    file: str
    line: int

    @property
    def code(self):
        """The line of the kernel's source, "" where it cannot be had."""
        return linecache.getline(self.file, self.line).strip() if self.file else ""

    def __str__(self):
        verb = {"load": "reads", "store": "writes"}[self.access]
        if self.kind == "outside":
            what = f"{verb} outside {self.tensor} of shape {self.shape}: {self.offset} elements after its first"
        else:
            meets = "writes" if self.access == "load" or self.kind == "written twice" else "reads"
            what = f"{verb} {self.tensor}{list(self.element)}, which program {self.other} {meets}"
        known = self.file and Path(self.file).exists()  # a notebook's cell has no file that a reader knows
        where = f"{Path(self.file).name}:{self.line}: {self.code}" if known else f"line {self.line}: {self.code}"
        lanes = f"{self.lanes} lane{'s' * (self.lanes > 1)} in all"
        return f"{self.kernel}, program {self.program}, {lanes}\n    {what}\n    {where}"


class Findings(list):
    """The findings of a call, none if it is safe. launches: how many of each kernel were watched; lanes: touched.

    stored: of each storage that was stored to, by its address, itself and bool by byte: whether a lane stored it.
    """

    def __init__(self):
        super().__init__()
        self.launches, self.lanes, self.stored = Counter(), 0, {}

    def __str__(self):
        if self:
            return "\n".join(map(str, self))
        counts = (self.launches.total(), "launch", "launches"), (len(self.launches), "kernel", "kernels")
        launches, kernels = (f"{count} {one if count == 1 else many}" for count, one, many in counts)
        return (
            f"{launches} of {kernels}, {self.lanes:,} lanes: none outside its tensor,\n"
            "no element written by two programs, none read that another writes."
        )


def sanitize(call):
    """Judge every launch that `call()` makes, each by itself. Returns Findings, empty for a safe call.

    Lanes that stray are named and masked off, so that a faulty kernel does no harm. Raises RuntimeError with a sentence
    where kernels are not interpreted, NotImplementedError for a pointer cast to another width and a compare-and-swap.
    """
    findings = Findings()
    with guarded(_Guard(findings)):
        call()
    return findings


def scattered(*shape, dtype=torch.float32, device="cpu"):
    """Normal numbers in a view with gaps, as a ragged launch takes them: a lane between two elements is outside.

    Axes 1 and 2 of four lie turned in memory, as a projection leaves time and heads; the last axis has stride 2.
    """
    turn = (0, 2, 1, 3) if len(shape) == 4 else tuple(range(len(shape)))
    *outer, last = (shape[axis] for axis in turn)
    numbers = torch.randn(*outer, 2 * last, generator=torch.Generator().manual_seed(sum(shape)))
    return numbers.to(device, dtype).permute(turn)[..., ::2]


class _Place:
    """Where the elements of a tensor lie. known: bool by offset in elements; first: its byte in the storage."""

    def __init__(self, tensor):
        self.tensor, self.size, self.storage = tensor, tensor.element_size(), tensor.untyped_storage()
        self.first = tensor.data_ptr() - self.storage.data_ptr()
        offsets = np.zeros(tuple(tensor.shape), dtype=np.int64)
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            offsets += (np.arange(size) * stride).reshape([-1 if each == axis else 1 for each in range(tensor.ndim)])
        self.offsets = offsets
        self.known = np.zeros(offsets.max() + 1 if offsets.size else 0, dtype=bool)
        self.known[offsets] = True


class _Marks:
    """Which program wrote each unit of a storage, and the first two that read it: -1 for none."""

    def __init__(self, storage, unit):
        self.unit = unit
        self.writer, self.reader, self.second = np.full((3, storage.nbytes() // unit), -1, dtype=np.int32)

    def touched(self, place, offsets):
        """Units of the elements at these offsets, [elements, units of one]."""
        starts = (place.first + offsets * place.size) // self.unit
        return starts[:, None] + np.arange(place.size // self.unit)

    def load(self, units, program):
        """Note a load. Returns, unit by unit, another program that writes it, or -1."""
        reader = self.reader[units]
        self.reader[units[reader < 0]] = program
        self.second[units[(reader >= 0) & (reader != program)]] = program
        writer = self.writer[units]
        return np.where(writer == program, -1, writer)

    def store(self, units, program):
        """Note a store. Returns, unit by unit, another program that writes it and one that reads it, or -1."""
        writer, reader, second = self.writer[units], self.reader[units], self.second[units]
        self.writer[units] = program
        return np.where(writer == program, -1, writer), np.where(reader == program, second, reader)


class _Guard:
    """What `kernels.trace.guarded` asks: judges one launch after another and gathers the findings."""

    def __init__(self, findings):
        self.findings = findings

    def begin(self, kernel, tensors):
        self.kernel, self.programs = kernel, []
        self.findings.launches[kernel] += 1
        self.places = {name: _Place(tensor) for name, tensor in tensors.items()}
        units, storages = {}, {}
        for place in self.places.values():
            address = place.storage.data_ptr()
            units[address] = min(place.size, units.get(address, place.size))
            storages[address] = place.storage
        self.marks = {address: _Marks(storages[address], unit) for address, unit in units.items()}

    def allow(self, kind, name, offsets, size, program):
        self.findings.lanes += offsets.size
        if program not in self.programs[-1:]:  # programs come one after another, each once
            self.programs.append(program)
        if name is None:
            self._note("outside", kind, "an address of no argument", (), int(offsets[0]), None, None, offsets.size)
            return np.zeros(offsets.shape, dtype=bool)
        place = self.places[name]
        if size != place.size:
            raise NotImplementedError(
                f"{self.kernel} reads or writes {size} bytes at once in {name}, whose elements have {place.size}: "
                "a pointer cast to another width is not judged."
            )
        at, rest = np.divmod(offsets, size)
        inside = (rest == 0) & (at >= 0) & (at < len(place.known))
        inside[inside] = place.known[at[inside]]
        if not inside.all():
            stray = at[~inside]
            self._note("outside", kind, name, tuple(place.tensor.shape), int(stray[0]), None, None, stray.size)
        marks, at = self.marks[place.storage.data_ptr()], at[inside]
        units, number = marks.touched(place, at), len(self.programs) - 1
        if kind == "load":
            self._meet("read and written", kind, name, at, marks.load(units, number))
        else:
            self._note_stored(place, at)
            writers, readers = marks.store(units, number)
            self._meet("written twice", kind, name, at, writers)
            self._meet("read and written", kind, name, at, readers)
        return inside

    def _note_stored(self, place, at):
        new = place.storage, np.zeros(place.storage.nbytes(), dtype=bool)
        _, stored = self.findings.stored.setdefault(place.storage.data_ptr(), new)
        stored[(place.first + at * place.size)[:, None] + np.arange(place.size)] = True

    def _meet(self, what, kind, name, at, others):
        """Note the lanes where another program was met. others: [lanes, units of one], -1 for nobody."""
        others = others.max(1)
        met = others >= 0
        if met.any():
            place, first = self.places[name], int(at[met][0])
            element = tuple(int(index) for index in np.argwhere(place.offsets == first)[0])
            other = self.programs[int(others[met][0])]
            self._note(what, kind, name, tuple(place.tensor.shape), first, element, other, int(met.sum()))

    def _note(self, what, kind, name, shape, offset, element, other, lanes):
        """A new finding, or more lanes of one that the same line has given already."""
        file, line = kernel_line()
        for number, known in enumerate(self.findings):
            if (known.kernel, known.kind, known.tensor, known.line) == (self.kernel, what, name, line):
                self.findings[number] = known._replace(lanes=known.lanes + lanes)
                return
        self.findings.append(
            Finding(self.kernel, what, kind, name, shape, offset, element, self.programs[-1], other, lanes, file, line)
        )
