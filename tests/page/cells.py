"""The kernels of the chapters, as their pages show them: those of the exercises' solutions, and all others."""

import ast
import functools
import importlib.util
import re
from typing import NamedTuple

from support.house import ROOT

IMPORTS = "import math\n\nimport torch\nimport triton\nimport triton.language as tl\n\n\n"


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
        for number, (functions, graded) in enumerate(blocks):
            kernels = tuple(name for name, (_, jit) in functions.items() if jit)
            if not kernels:
                continue
            following, last = dict(functions), graded
            for more, then in blocks[number + 1 : number + 3]:
                if last or any(jit for _, jit in more.values()):
                    break
                following |= more
                last = then
            if not last or last[1] not in following:
                following, last = functions, None
            text = IMPORTS + "\n\n\n".join(text for text, _ in following.values()) + "\n"
            found.append(Cell(path.stem, text, kernels, last))
    return found


def _parsed(block):
    """({name: (text, is a kernel)} of the functions, (exercise, function) or None) of a cell."""
    block = re.sub(r"^---\n.*?\n---\n", "", block, flags=re.S)
    try:
        tree = ast.parse(block)
    except SyntaxError:
        return {}, None
    lines, functions = block.splitlines(), {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            marks = [ast.unparse(each) for each in node.decorator_list]
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            functions[node.name] = "\n".join(lines[first - 1 : node.end_lineno]), "triton.jit" in marks
    graded = re.search(r'^assert grade\("([\w.]+)", (\w+)\)', block, re.M)
    return functions, graded and (graded[1], graded[2])


def solutions():
    return {cell.graded[0]: cell for cell in cells() if cell.graded}


def shown():
    """The kernels that no check grades, by page and name."""
    return {f"{cell.page}.{name}": cell for cell in cells() if not cell.graded for name in cell.kernels}


def in_triton(cell, folder):
    """The names that a cell defines, with Triton itself and PyTorch."""
    path = folder / f"{cell.page}_{cell.kernels[0]}.py"
    path.write_text(cell.text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)
