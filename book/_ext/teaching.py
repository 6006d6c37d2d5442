"""Write the chapters for a class, without what answers their exercises.

    python book/_ext/teaching.py [FOLDER]      all chapters, into _build/teach

Exercises, hints and the cells that grade stay; `{solution}` blocks, the cells that follow them, and what a prediction
says of its answers go. Each chapter is written as a notebook and as its .md, beside the pages of text of the book.
"""

import re
import shutil
import sys
from pathlib import Path

import jupytext
import nbformat
from built import chapters
from repository import ROOT, address, commit

BOOK = ROOT / "book"
SOLUTION = re.compile(r"^(`{3,}|:{3,})\{solution\}.*?^\1$\n*", re.DOTALL | re.MULTILINE)
PREDICTION = re.compile(r"^(`{3,}|:{3,})\{predict\} (.*?)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)
LANDMARK = re.compile(r"^(?:`{3,}|:{3,})\{(exercise|solution|predict)\}|^#+ ", re.MULTILINE)
README = """\
Efficient Attention, from Softmax to Two Bits: the chapters without solutions.

Made by `make teach` of {address}, commit {commit}.

Give your class this folder, and the environment that `make lab` makes (or the image of the Dockerfile). Exercises,
hints and the cells that grade are as in the book; the cells that graded the book's own answers are gone. Predictions
have lost their feedback, so ask for them in the room.

Two things this cannot hide: the published book shows all solutions, and the library's checks, effattn_core/*/checks.py,
hold the cases that grade an answer. Who looks will find them.
"""


def without_answers(text):
    """A cell of text without its solutions; a prediction becomes a box with its question and its options."""
    return PREDICTION.sub(_asked, SOLUTION.sub("", text)).strip()


def _asked(match):
    """The box of a prediction: its right answer, and what is said of each, left out."""
    fence, title, body = match.groups()
    body = re.sub(r"^:answer:.*\n", "", body, flags=re.MULTILINE).replace(":label:", ":class: tip\n:name:", 1)
    kept, option = [], False
    for line in body.rstrip("\n").split("\n"):
        if re.match(r"\d+\. ", line):
            option = "text"
        elif option == "text" and not line.strip():
            option = "reason"  # it stands apart from its option, indented
            continue
        if option != "reason":
            kept.append(line)
    return f"{fence}{{admonition}} {title}\n" + "\n".join(kept) + f"\n{fence}"


def answers(cells):
    """Places of the code cells that belong to a solution: they follow its block, before anything else is said."""
    last = None
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            marks = [match[1] for match in LANDMARK.finditer(cell["source"])]
            last = marks[-1] if marks else last
        elif last == "solution":
            yield place


def for_a_class(notebook):
    """The notebook without what answers its exercises. Changes and returns it."""
    hidden, kept = set(answers(notebook.cells)), []
    for place, cell in enumerate(notebook.cells):
        if place in hidden:
            continue
        if cell["cell_type"] == "markdown":
            cell["source"] = without_answers(cell["source"])
            if not cell["source"]:
                continue
        kept.append(cell)
    notebook.cells = kept
    return notebook


def write(source, target):
    """The chapter at `source` (.ipynb) without answers at `target`, and its .md beside it."""
    notebook = for_a_class(nbformat.read(source, as_version=4))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    target.with_suffix(".md").write_text(jupytext.writes(notebook, fmt="md:myst"), encoding="utf-8")


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)  # a page that is gone from the book must not stay
    for name in chapters():
        source, target = BOOK / f"{name}.ipynb", folder / f"{name}.ipynb"
        if source.exists():
            write(source, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source.with_suffix(".md"), target.with_suffix(".md"))
    (folder / "README.txt").write_text(README.format(address=address(), commit=commit(7)), encoding="utf-8")
    print(f"{len(chapters())} pages without solutions are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "teach")
