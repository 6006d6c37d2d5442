"""Every kernel and how it is proved, read from the sources: what the tests declare, and what they find by discovery.

A test declares `@pytest.mark.proves("oracle", "retention_*_kernel")`: it holds these kernels against the oracle, or
against a formula of what they move ("traffic"). `tests/support/proofs.py` fails a run in which a kernel so declared is
not launched. The other proofs are made of all kernels of a topic, and their tests fail where one is left out.
"""

import ast
import fnmatch
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {
    "oracle": "agrees with the oracle",
    "traffic": "traced = formula",
    "compiled": "compiled, sm_80 and sm_90",
    "sanitized": "sanitized, any order",
    "timed": "timed on a GPU",
}
DISCOVERED = {
    "compiled": "example_launches",
    "sanitized": "ragged_launches",
}  # a topic's function, by which it is found


def setup(app):
    app.connect("source-read", place_table)
    return {"parallel_read_safe": True}


def place_table(app, docname, source):
    """Replace "(every kernel and its proofs)" on a page of the library."""
    if docname.startswith("reference"):
        source[0] = source[0].replace("(every kernel and its proofs)", table())


def kernels():
    """topic -> the names of its kernels, in the order of files and lines. A shared file is a topic of its own here."""
    found = {}
    for path in sorted((ROOT / "kernels").rglob("*.py")):
        for node in _tree(path).body:
            if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
                found.setdefault(_topic(path), []).append(node.name)
    return found


def declared():
    """(kind, pattern of kernel names, test's file and name) of every mark `proves` in the tests."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(_tree(path)):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
                    kind, *patterns = (ast.literal_eval(argument) for argument in mark.args)
                    for pattern in patterns:
                        yield kind, pattern, f"{path.relative_to(ROOT)}::{node.name}"


def matrix():
    """Kernel -> the kinds of proof that it has, a set of keys of COLUMNS."""
    marks = list(declared())
    rows = {}
    for topic, names in kernels().items():
        functions = {node.name for path in _files(topic) for node in _tree(path).body if hasattr(node, "name")}
        shared = "example_launches" not in functions  # launched, and so found, through the topics that use it
        common = {kind for kind, function in DISCOVERED.items() if shared or function in functions}
        common |= {"timed"} if _on_a_gpu(topic) else set()
        for name in names:
            rows[name] = common | {kind for kind, pattern, _ in marks if fnmatch.fnmatch(name, pattern)}
    return rows


def table():
    """The matrix as reStructuredText for the reference page: one row per kernel, one column per kind of proof."""
    rows = matrix()
    lines = [".. list-table:: Every kernel and its proofs", "   :header-rows: 1", ""]
    for cells in [["kernel", *COLUMNS.values()], *(_row(name, kinds) for name, kinds in rows.items())]:
        lines += [f"   {'*' if place == 0 else ' '} - {cell}" for place, cell in enumerate(cells)]
    return "\n".join(lines)


def _row(name, kinds):
    return [f"``{name.removesuffix('_kernel')}``", *("yes" if kind in kinds else "no" for kind in COLUMNS)]


def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _topic(path):
    return path.relative_to(ROOT / "kernels").parts[0].removesuffix(".py")


def _files(topic):
    return [path for path in (ROOT / "kernels").rglob("*.py") if _topic(path) == topic]


def _on_a_gpu(topic):
    """Whether a recorded measurement of the topic timed kernels on a GPU."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in ROOT.glob(f"book/measurements/{topic}/*.json")]
    return any(not record["provenance"]["device"].startswith("CPU") for record in records)
