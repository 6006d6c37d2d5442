"""Chapters and their executed pairs: whether they say the same, and whether a fresh run gives what is stored."""

import os
import sys
from pathlib import Path

import jupytext
from support.processes import finished

SERVERS = {"CI", "BUILD_NUMBER"}  # what pytest knows a server by


def differences(notebook):
    """The cells in which X.md and X.ipynb do not say the same, as sentences."""
    text, stored = jupytext.read(notebook.with_suffix(".md")), jupytext.read(notebook)
    if len(text.cells) != len(stored.cells):
        return [f"{notebook.name} has {len(stored.cells)} cells, its .md has {len(text.cells)}: run make notebooks"]
    pairs = enumerate(zip(text.cells, stored.cells, strict=True))
    return [
        f"cell {number} of {notebook.name} differs from its .md: run make notebooks"
        for number, (ours, theirs) in pairs
        if (ours.cell_type, ours.source, ours.metadata.get("tags")) != (
            theirs.cell_type, theirs.source, theirs.metadata.get("tags"))
    ]  # fmt: skip


def compare(notebook):
    """Run a notebook in a fresh kernel, alone, and compare every stored output. Returns the finished process."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "support.nearby", "-p", "no:xdist", "-q"]
    command += ["-p", "no:cacheprovider", "-o", "assertion_text_diff_style=block"]
    command += ["-o", "addopts=", "--nbval-cell-timeout", "300", "--rootdir", str(notebook.parent), str(notebook)]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"EFFATTN_STATIC": "1", "PYTHONPATH": path}
    for name in [name for name in environment if name.startswith(("PYTEST_", "TRITON_INTERPRET")) or name in SERVERS]:
        environment.pop(name)
    return finished(command, cwd=notebook.parent, env=environment)
