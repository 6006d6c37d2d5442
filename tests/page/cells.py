"""The kernels of the chapters, as their pages show them: those of the exercises' solutions, and all others."""

import functools
import re
from typing import NamedTuple

import lab_shown
from lab_found import joined, kernels_of
from lab_shown import IMPORTS
from support.house import ROOT


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
    for path in sorted((ROOT / "book").glob("*/*.md")):
        blocks = [_parsed(block) for block in re.findall(r"```\{code-cell\}[^\n]*\n(.*?)```", path.read_text(), re.S)]
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
                following, last = functions, None
            found.append(Cell(path.stem, IMPORTS + joined(following.values()), tuple(kernels), last))
    return found


def _parsed(block):
    """(its functions, the names of its kernels, (exercise, function) that it grades or None) of a cell."""
    block = re.sub(r"^---\n.*?\n---\n", "", block, flags=re.S)
    graded = re.search(r'^assert grade\("([\w.]+)", (\w+)\)', block, re.M)
    return *kernels_of(block), graded and (graded[1], graded[2])


def solutions():
    return {cell.graded[0]: cell for cell in cells() if cell.graded}


def shown():
    """The kernels that no check grades, by page and name."""
    return {f"{cell.page}.{name}": cell for cell in cells() if not cell.graded for name in cell.kernels}


def in_triton(cell, folder):
    """The names that a cell defines, with Triton itself and PyTorch."""
    return lab_shown.in_triton(cell.text, f"{cell.page}_{cell.kernels[0]}", folder)
