"""Execute the chapters and store them: X.md, which people edit, becomes X.ipynb, which the book shows.

    python book/_ext/notebooks.py [CHAPTER ...]      all chapters, or those whose path holds one of the words

Each runs alone in a fresh kernel, in its own folder. A second run leaves no difference: cell names follow from their
place, and an output that a machine may change (tag nbval-ignore-output) is kept as stored while its cell is unchanged,
and every cell that runs before it, for it may follow from any of them.
"""

import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

BOOK = Path(__file__).resolve().parents[1]
MACHINE = "nbval-ignore-output"
VERSIONS = "import platform, torch, kernels; d = kernels.runtime.device(); " + (
    "print(torch.cuda.get_device_name() if d.type == 'cuda' else 'CPU', platform.python_version(), "
    "torch.__version__, kernels.runtime.triton_version() or 'none', sep='\\n')"
)


def chapters(words=()):
    """The MyST notebooks of the book, in order; with words, those whose path holds one."""
    found = [path for path in sorted(BOOK.rglob("*.md")) if "_build" not in path.parts and is_notebook(path)]
    return [path for path in found if not words or any(word in str(path.relative_to(BOOK)) for word in words)]


def is_notebook(path):
    head = path.read_text(encoding="utf-8")[:600]
    return head.startswith("---") and "jupytext" in head


def execute(source):
    """Run one chapter and return its notebook, outputs that cannot be compared taken from the stored pair."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    here = {"metadata": {"path": source.parent}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=here)
    with client.setup_kernel():
        for number, cell in enumerate(tqdm(notebook.cells, desc=source.stem, unit="cell", leave=False)):
            client.execute_cell(cell, number)
        asked = nbformat.v4.new_code_cell(VERSIONS)
        notebook.cells.append(asked)
        client.execute_cell(asked, len(notebook.cells) - 1)
        notebook.cells.pop()
    device, python, torch, triton = "".join(output["text"] for output in asked.outputs).strip().split("\n")
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "jupytext": {"formats": "md:myst,ipynb", "text_representation": {"extension": ".md", "format_name": "myst"}},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},  # without it jupytext drops "ipython3"
        "effattn": {"": device, "Python": python, "torch": torch, "triton": triton},
    }
    join_streams(notebook)
    keep_stored(notebook, source.with_suffix(".ipynb"))
    return notebook


def join_streams(notebook):
    """Text that came in pieces becomes one piece, and progress bars become their last state."""
    for cell in notebook.cells:
        joined = []
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream" and joined and joined[-1].get("name") == output["name"]:
                joined[-1]["text"] += output["text"]
            else:
                joined.append(output)
        for output in joined:
            if output["output_type"] == "stream":
                output["text"] = "\n".join(line.split("\r")[-1] for line in output["text"].split("\n"))
        if "outputs" in cell:
            cell["outputs"] = joined


def keep_stored(notebook, path):
    """Where a cell may differ between machines, and no source up to it has changed, show what was stored."""
    if not path.exists():
        return
    old = nbformat.read(path, as_version=4)
    sources = [[cell["source"] for cell in each.cells] for each in (old, notebook)]
    code = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    for cell, before in zip(code, (cell for cell in old.cells if cell["cell_type"] == "code"), strict=False):
        if before["source"] != cell["source"]:
            break
        if MACHINE in cell.metadata.get("tags", []) and before.get("outputs"):
            cell["outputs"] = before["outputs"]
    if sources[0] == sources[1] and "effattn" in old.metadata:
        notebook.metadata["effattn"] = old.metadata["effattn"]


def store(notebook, path):
    """Write aside, then rename: an interrupted run leaves the last whole chapter."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(aside, path)


def main(words):
    os.environ["EFFATTN_STATIC"] = "1"
    wanted = chapters(words)
    if not wanted:
        sys.exit(f"no chapter holds {' or '.join(words)} in its path; there are {[path.stem for path in chapters()]}.")
    for source in wanted:
        begin = time.perf_counter()
        try:
            notebook = execute(source)
        except CellExecutionError as error:
            sys.exit(f"{source.relative_to(BOOK)} stopped:\n{error}")
        store(notebook, source.with_suffix(".ipynb"))
        print(f"{source.relative_to(BOOK)}: {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
