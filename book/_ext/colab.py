"""Write the chapters for Colab: a first cell in each notebook installs what it needs and says which GPU it found.

    python book/_ext/colab.py [FOLDER]      all chapters, into _build/colab

The stored notebooks stay as they are: pages, pairs and nbval never see the cell. What a chapter needs is read from its
imports, and from those of the library's modules that they reach. `.ci/publish-colab` puts the folder on the branch that
the rocket above a page opens.
"""

import ast
import functools
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
from notebooks import chapters
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import ROOT, address, carriers, commit, project

BOOK = ROOT / "book"
PACKAGES = ("effattn_core", "kernels", "figures")
EXTRAS = ("chapters", "model", "travel")  # of pyproject.toml: what a chapter may need
# Colab has its own of these, which its page fits; on its widgets see figures/live.py.
THERE = {"anywidget", "ipykernel", "ipython", "ipywidgets", "jupyterlab"}
CELL = """\
# @title Run this first (a minute or two): it installs what this chapter needs, and says which GPU it found
import importlib.util, os, subprocess, sys

if importlib.util.find_spec("effattn_core") is None:
    house, pip = "/content/effattn", [sys.executable, "-m", "pip", "install", "--quiet"]
    for words in (
        ["git", "init", "--quiet", house],
        ["git", "-C", house, "fetch", "--quiet", "--depth", "1", "{address}", "{commit}"],
        ["git", "-C", house, "checkout", "--quiet", "FETCH_HEAD"],
        [*pip, {needed}],
        [*pip, "--no-deps", "--editable", house{carried}],
    ):
        subprocess.run(words, check=True)
    sys.path.insert(0, house)  # this process has read its paths already
    os.chdir(f"{{house}}/book{folder}")

import torch

if not torch.cuda.is_available():
    print("No GPU: Triton's interpreter runs the kernels. For a GPU: Runtime, Change runtime type; then run again.")
else:
    name, (major, minor) = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    print(f"{{name}} (sm_{{major}}{{minor}}) is here.", end=" ")
    if major < 8:
        os.environ["TRITON_INTERPRET"] = "1"  # before the book's library is imported
        print("Kernels are compiled for sm_80 and later (A100, L4): the interpreter runs them here.")
    else:
        print("Kernels are compiled for it.")
"""


def source_of(name):
    """The file of a module of the library, or None."""
    path = ROOT.joinpath(*name.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)


def mentioned(text, package=""):
    """Names of modules that a source imports, or holds as a word: what is imported by its name, too.

    package: the module's package, for relative imports.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, (package if node.level else "", node.module)))
            yield module
            yield from (f"{module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"[a-z_]\w*(\.\w*)*(:\w+)?", node.value):
                yield node.value.partition(":")[0].rstrip(".")
    for room in re.findall(r'topic_modules\("(\w+)"\)', text):
        if room != "checks":  # a check is imported by the name of its exercise
            yield from (f"effattn_core.{path.parent.name}.{room}" for path in ROOT.glob(f"effattn_core/*/{room}.py"))
    for topic in re.findall(r'grade\("(\w+)\.', text):
        yield from (f"effattn_core.{topic}.checks", f"effattn_core.{topic}_checks")


@functools.cache
def mentioned_in(name):
    """The same of a module of the library."""
    path = source_of(name)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return tuple(mentioned(path.read_text(encoding="utf-8"), package))


def reached(text):
    """(outside, inside): the modules that a chapter's code reaches, of other distributions and of the library."""
    outside, inside, left = set(), set(), list(mentioned(text))
    while left:
        name = left.pop()
        if name.partition(".")[0] not in PACKAGES:
            outside.add(name.partition(".")[0])
        elif name not in inside and source_of(name):
            inside.add(name)
            left += [*filter(None, [name.rpartition(".")[0]]), *mentioned_in(name)]
    return outside, inside


def needs(notebook):
    """(requirements, wheels without their dependencies) of a chapter, as pip takes them, in order.

    Raises SystemExit where a distribution that a chapter may need is not installed here: its modules are unknown then.
    """
    asked = project()
    optional = [Requirement(each) for extra in EXTRAS for each in asked["optional-dependencies"][extra]]
    owners = {module: [*map(canonicalize_name, names)] for module, names in packages_distributions().items()}
    may = {canonicalize_name(each) for each in [*carriers(), *(each.name for each in optional)]}
    if missing := may - {name for names in owners.values() for name in names}:
        raise SystemExit(f"not installed here: {', '.join(sorted(missing))}. `make colab` installs all that it needs.")
    code = "\n".join(cell["source"] for cell in notebook.cells if cell["cell_type"] == "code")
    used = {name for module in reached(code)[0] for name in owners.get(module, ())}
    chosen = [Requirement(each) for each in asked["dependencies"]]
    chosen = [each for each in chosen if each.marker is None or each.marker.evaluate({"sys_platform": "linux"})]
    chosen += [each for each in optional if canonicalize_name(each.name) in used - THERE]
    return [f"{each.name}{each.specifier}" for each in chosen], [
        each for each in carriers() if canonicalize_name(each) in used
    ]


def first_cell(notebook, folder):
    """The source of the first cell. folder: the chapter's folder in book/, "" for the book itself."""
    needed, carried = needs(notebook)
    return CELL.format(
        address=address(),
        commit=commit(),
        needed=", ".join(f'"{each}"' for each in needed),
        carried="".join(f', "{each}"' for each in carried),
        folder=f"/{folder}" if folder not in ("", ".") else "",
    )


def with_first_cell(path):
    """The notebook at `path` as Colab gets it."""
    notebook = nbformat.read(path, as_version=4)
    cell = nbformat.v4.new_code_cell(
        first_cell(notebook, path.parent.relative_to(BOOK).as_posix()), id="colab", metadata={"cellView": "form"}
    )
    notebook.cells.insert(0, cell)
    notebook.metadata["accelerator"] = "GPU"
    notebook.metadata["colab"] = {"provenance": []}
    return notebook


def main(folder):
    stored = [source.with_suffix(".ipynb") for source in chapters()]
    for path in stored:
        target = folder / path.relative_to(BOOK)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(nbformat.writes(with_first_cell(path)) + "\n", encoding="utf-8")
    print(f"{len(stored)} notebooks for Colab are in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "_build" / "colab")
