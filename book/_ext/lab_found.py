"""What of a page gets a box: exercises that ask for a kernel or for numbers, and the kernels that a chapter shows.

A page needs no word about its boxes. Here stands how a chapter is read; `lab.py` says which of what is found is placed.
"""

import ast
import re

from docutils import nodes
from exercise_pages import exercises_of, level_of

STUB = re.compile(r"\n*verdict = grade\(\"([^\"]+)\", (\w+)\)\s*$")
ASKED = re.compile(r"^verdict = grade\(\"([^\"]+)\", (?:\.\.\.|answer)\)\s*$", re.MULTILINE)
SOLVED = re.compile(r"\n*assert grade\(\"([^\"]+)\", (\w+)\)\.passed\s*$")
IMPORTS = re.compile(r"^(?:import|from) .*\n+", re.MULTILINE)
TRY = "try-"  # and the page and the kernel: how the box of a shown kernel is called


def found(doctree, page):
    """[(what its script reads, the node of the cell that it follows)] of all that could have a box, in order.

    page: the last part of the document's name. A box has "kind":

    - "kernel", an exercise: name, function, label, title, stub, hint, answer; below the first cell that grades it;
    - "number", an exercise: name, label, title; below the cell that grades `...`, or an `answer` that is `...`;
    - "shown", a kernel that no exercise asks for: name, function, title, stub, of which each function is that of the
      cell; below the cell, at its first appearance.
    """
    levels = {id(node): level_of(node) for node in exercises_of(doctree)}
    exercise, level, cells, boxes = None, "", [], {}
    for node in doctree.findall(nodes.Element):
        if id(node) in levels:
            exercise, level, cells = node, levels[id(node)], None
        elif type(node).__name__ == "solution_node":
            cells = []
        elif exercise is not None and _is_hint(node):
            _hint(node, exercise, boxes)
        elif isinstance(node, nodes.section):
            exercise, level, cells = None, "", None
        elif _is_cell(node):
            text = node.astext()
            stub, asked, solved = STUB.search(text), ASKED.search(text), SOLVED.search(text)
            if level == "kernel" and stub and cells is None:
                box = _box(stub[1], exercise, "kernel") | {"function": stub[2], "hint": "", "answer": ""}
                boxes.setdefault(stub[1], (box | {"stub": _bare(text[: stub.start()])}, node))
            elif level == "pencil" and asked:
                boxes.setdefault(asked[1], (_box(asked[1], exercise, "number"), node))
            elif cells is not None:
                cells.append(_bare(SOLVED.sub("", text)))
                if solved:
                    if "answer" in boxes.get(solved[1], [{}])[0]:
                        boxes[solved[1]][0]["answer"] = "\n\n".join(filter(str.strip, cells))
                    cells = None
            elif not stub:
                for box in _shown(text, page):
                    boxes.setdefault(box["name"], (box, node))
    return list(boxes.values())


def kernels_of(text):
    """({name: source} of the functions of a cell, the names of those marked @triton.jit); nothing of what is no Python.

    Of a cell that has other lines too, those are left out.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}, []
    lines, functions, kernels = text.splitlines(), {}, []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            functions[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
            kernels += [node.name] if "triton.jit" in map(ast.unparse, node.decorator_list) else []
    return functions, kernels


def joined(functions):
    """The text of functions, as an editor begins with it."""
    return "\n\n\n".join(functions) + "\n"


def _shown(text, page):
    functions, kernels = kernels_of(text) if "@triton.jit" in text else ({}, [])
    for name in kernels:
        title = f"the kernel {name}"
        stub = joined(functions[each] for each in kernels)  # the launcher stays out: the stored grids launch it
        yield {"kind": "shown", "name": f"{TRY}{page}.{name}", "function": name, "title": title, "stub": stub}


def _box(name, exercise, kind):
    return {"kind": kind, "name": name, "label": exercise["label"], "title": exercise.get("said", "")}


def _bare(text):
    """A cell without its imports: the page has torch, triton, tl and math from the start."""
    return IMPORTS.sub("", text).strip("\n") + "\n"


def _is_cell(node):
    """Whether a node is the source of a notebook's cell, and not its output, or a listing."""
    return isinstance(node, nodes.literal_block) and "cell_input" in node.parent.get("classes", [])


def _is_hint(node):
    return "sd-dropdown" in node.get("classes", []) and node.astext().lstrip().startswith("Hint")


def _hint(node, exercise, boxes):
    said = [each.astext() for each in node.findall(nodes.paragraph) if each.astext() != "Hint"]
    for box, _ in boxes.values():
        if box["kind"] == "kernel" and box["label"] == exercise["label"]:
            box["hint"] = "\n\n".join(said)
