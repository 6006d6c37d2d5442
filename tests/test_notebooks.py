"""Chapters: each pair is in step, and each stored output is what a fresh run gives."""

import json
import os
import subprocess
import sys
import time

import jupytext
import pytest
from house import ROOT, notebooks

CHAPTERS = notebooks()
NAMES = [str(path.relative_to(ROOT / "book")) for path in CHAPTERS]
LONGEST = 60  # seconds a chapter may take on two cores


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
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:xdist", "-p", "no:cacheprovider", "-q"]
    command += ["-o", "addopts=", "--rootdir", str(notebook.parent), str(notebook)]
    environment = os.environ | {"EFFATTN_STATIC": "1"}
    for name in [name for name in environment if name.startswith(("PYTEST_", "TRITON_INTERPRET"))]:
        environment.pop(name)
    return subprocess.run(command, cwd=notebook.parent, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("notebook", CHAPTERS, ids=NAMES)
def test_the_pair_is_in_step(notebook):
    assert differences(notebook) == []


@pytest.mark.parametrize("notebook", CHAPTERS, ids=NAMES)
def test_jupyterlab_can_open_the_pair(notebook):
    """Lab refuses a pair whose text, written from the notebook, is not the text that is there."""
    written = jupytext.writes(jupytext.read(notebook), fmt="md:myst")
    ours, theirs = (text.split("\n---\n", 1)[1] for text in (written, notebook.with_suffix(".md").read_text()))
    assert ours == theirs


@pytest.mark.parametrize("notebook", CHAPTERS, ids=NAMES)
def test_stored_outputs_are_what_a_fresh_run_gives(notebook):
    begin = time.perf_counter()
    done = compare(notebook)
    taken = time.perf_counter() - begin
    print(f"{notebook.name}: {taken:.0f} s, kernel start and comparison included")
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    if os.environ.get("PYTEST_XDIST_WORKER") is None:  # beside other tests a core is shared
        assert taken < LONGEST


@pytest.mark.parametrize("notebook", CHAPTERS, ids=NAMES)
def test_a_stored_notebook_is_whole_and_static(notebook):
    content = json.loads(notebook.read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code), "a cell was not run"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    for cell in code:
        assert len("".join(cell["source"]).splitlines()) <= 25, "".join(cell["source"])
