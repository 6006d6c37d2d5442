"""Chapters: each pair is in step, and each stored output is what a fresh run gives."""

import json
import resource
import time

import jupytext
import pytest
import torch
from support.house import ROOT, notebooks
from support.pairs import compare, differences

CHAPTERS = notebooks()
NAMES = [str(path.relative_to(ROOT / "book")) for path in CHAPTERS]
LONGEST = 60  # seconds a chapter may take on two cores, kernel start and comparison included
UNIT = 0.33  # processor seconds of `slowness` on a server's core of 2024


def processor_seconds():
    """Of all child processes that have ended, the kernels that they started included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def slowness():
    """How many times longer this core takes, now, than the one that LONGEST is meant for; at least 1.

    Half of the work is Python's, half products of matrices, as in a chapter: UNIT processor seconds there.
    """
    begin, square = time.process_time(), torch.ones(512, 512)
    for _ in range(60):
        square @ square
    sum(i * i for i in range(3_000_000))
    return max(1, (time.process_time() - begin) / UNIT)


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
    begin, used = time.perf_counter(), processor_seconds()
    done = compare(notebook)
    clock, used = time.perf_counter() - begin, processor_seconds() - used
    slower = slowness()
    print(f"{notebook.name}: {clock:.0f} s by the clock, {used:.0f} s of a processor, {slower:.2f} times slower")
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
    # The clock also counts waiting for cores that other tests use, processor seconds do not: who needs at most 60 of
    # them is done in 60 s on one core. What is over by both is too long, whatever runs beside it.
    assert min(clock, used) <= LONGEST * slower


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
