"""The teacher's export: no solution is in it, every exercise is, and its notebooks parse and run."""

import re
import subprocess
import sys

import jupytext
import nbformat
import pytest
import teaching
from nbclient import NotebookClient
from support.house import ROOT, chapters, notebooks

BOOK = ROOT / "book"
NAMES = [path.relative_to(BOOK).with_suffix("").as_posix() for path in notebooks()]
RUN = "0-before/primer"  # has exercises of four levels, and takes a few seconds


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teach")
    teaching.main(folder)
    return folder


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def reasons(text):
    """What predictions say of their options: the paragraphs that stand indented in them."""
    for _, _, body in teaching.PREDICTION.findall(text):
        yield from re.findall(r"^   \S.*", body, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_no_line_of_an_answer_is_left(exported, name):
    source = (BOOK / f"{name}.md").read_text()
    answers = [match[0] for match in teaching.SOLUTION.finditer(source)]
    assert len(answers) == source.count("{solution}")
    lines = [line.strip() for answer in answers for line in answer.splitlines()] + [
        each.strip() for each in reasons(source)
    ]
    stored = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    hidden = [stored.cells[place].source for place in teaching.answers(stored.cells)]
    assert all(cell in hidden for cell in code_of(stored) if re.search(r"assert grade\(|\.passed\b", cell))
    for ending in ("md", "ipynb"):
        text = (exported / f"{name}.{ending}").read_text()
        assert "{solution}" not in text and "{predict}" not in text and ":answer:" not in text
        assert [line for line in lines if len(line) > 30 and line in text] == []
    kept = code_of(nbformat.read(exported / f"{name}.ipynb", as_version=4))
    assert [cell for cell in hidden if cell in kept] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_its_hint_and_its_stub_are_left(exported, name):
    source, text = ((folder / f"{name}.md").read_text() for folder in (BOOK, exported))
    for mark in ("{exercise}", "{dropdown} Hint", "answer = ..."):
        assert text.count(mark) == source.count(mark), mark
    for label in re.findall(r"^:label: (exercise-[\w-]+)", source, re.MULTILINE):
        assert re.search(rf"^:(label|name): {label}$", text, re.MULTILINE), label
    graded = re.findall(r'^verdict = grade\("([\w.]+)"', source, re.MULTILINE)
    assert re.findall(r'^verdict = grade\("([\w.]+)"', text, re.MULTILINE) == graded


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_parses_and_no_cell_misses_what_a_solution_defined(exported, name):
    notebook = nbformat.read(exported / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    pair = jupytext.read(exported / f"{name}.md")
    assert [cell.source for cell in pair.cells] == [cell.source for cell in notebook.cells]
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E9,F821", "-"]
    done = subprocess.run(command, input="\n\n".join(code_of(notebook)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_chapter_of_the_export_runs_to_its_last_exercise(exported, monkeypatch):
    monkeypatch.delenv("EFFATTN_STATIC", raising=False)  # as in JupyterLab: figures draw one state
    notebook = nbformat.read(exported / f"{RUN}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": exported / "0-before"}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    asked = re.findall(r'^verdict = grade\("([\w.]+)"', (BOOK / f"{RUN}.md").read_text(), re.MULTILINE)
    assert asked and re.findall(r"^([\w.]+): not yet", said, re.MULTILINE) == asked and ": passed" not in said


def test_a_solution_s_cells_end_where_the_next_thing_is_said():
    cells = [
        ("markdown", "````{exercise} A\n````"), ("code", "stub"), ("markdown", "````{solution} a\nBecause.\n````"),
        ("code", "kernel"), ("code", "graded"), ("markdown", "## Takeaways"), ("code", "table"),
        ("markdown", "````{solution} b\n```{math}\nx\n```\n````\n\n````{exercise} C\n````"), ("code", "stub of C"),
    ]  # fmt: skip
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    notebook = nbformat.v4.new_notebook(cells=[new[kind](text) for kind, text in cells])
    assert [notebook.cells[place].source for place in teaching.answers(notebook.cells)] == ["kernel", "graded"]
    kept = [cell.source for cell in teaching.for_a_class(notebook).cells]
    assert kept == ["````{exercise} A\n````", "stub", "## Takeaways", "table", "````{exercise} C\n````", "stub of C"]


def test_a_prediction_keeps_its_question_and_its_options():
    options = "1. this\n   one\n\n   No.\n2. that\n\n   Yes.\n\n   It is.\n````"
    text = f"````{{predict}} Before\n:label: p\n:answer: 2\n\nWhich?\n\n{options}"
    assert teaching.without_answers(text) == (
        "````{admonition} Before\n:class: tip\n:name: p\n\nWhich?\n\n1. this\n   one\n2. that\n````"
    )


def test_pages_of_text_come_along_and_a_note_says_what_cannot_be_hidden(exported):
    assert all((exported / f"{name}.md").exists() for name in chapters())
    assert "checks.py" in (exported / "README.txt").read_text()
