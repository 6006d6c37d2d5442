"""The repository says one thing in one place: commands, versions, addresses, environments."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.house import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
COMMANDS = "book test lab notebooks bench send runs colab print teach offline site new inspect clean".split()


def test_bare_make_lists_every_command_with_a_line_of_help():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in COMMANDS:
        assert re.search(rf"^{command} +\S", listed, re.MULTILINE), command


def test_environment_yml_names_nothing_that_pyproject_does_not():
    conda, pip = [], []
    for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]:
        pip += entry["pip"] if isinstance(entry, dict) else []
        conda += [entry] if isinstance(entry, str) else []
    assert {re.split("[=<>]", name)[0] for name in conda} == {"python", "pip"}
    index = re.search(r"--extra-index-url \S+", (ROOT / ".ci" / "install").read_text())[0].rstrip(")")
    assert pip == [index, "--constraint constraints.txt", "--editable .[lab]"]
    assert "lab" in PROJECT["optional-dependencies"]


def test_every_dependency_is_pinned_for_ci_and_open_for_others():
    wanted = list(PROJECT["dependencies"])
    for extra in ("lab", "book", "test"):
        wanted += [each for each in PROJECT["optional-dependencies"][extra] if not each.startswith("effattn[")]
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in CONSTRAINTS}
    for requirement in wanted:
        name, bounds = re.match(r"([\w.-]+)([^;]*)", requirement).groups()
        assert re.sub(r"[-_.]+", "-", name).lower() in pinned, name
        assert "==" not in bounds and ">=" in bounds, requirement


def test_jupyter_book_two_cannot_slip_in():
    assert any(re.fullmatch(r"jupyter-book>=1\.0\.4,<2", each) for each in PROJECT["optional-dependencies"]["book"])


def test_the_address_of_the_repository_is_the_one_of_the_configuration():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == url and citation["version"] == PROJECT["version"]
    assert f"git clone --depth 1 {url}\n" in (ROOT / "book" / "how-to.md").read_text()


WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}


def steps(name):
    return [step for job in WORKFLOWS[name]["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_call_commands_that_exist(name):
    runs = "\n".join(step.get("run", "") for step in steps(name))
    made, files = re.findall(r"make (\w+)", runs), re.findall(r"\.ci/[\w-]+", runs)
    assert made or files
    assert set(made) <= {*COMMANDS, "lint"} and all((ROOT / file).exists() for file in files)


def test_the_pages_are_published_only_of_what_ci_has_proved():
    pages = WORKFLOWS["pages"]
    assert list(pages[True]) == ["workflow_run"] and pages[True]["workflow_run"]["workflows"] == ["ci"]  # YAML's "on"
    assert "conclusion == 'success'" in pages["jobs"]["publish"]["if"]
    assert steps("pages")[0]["with"]["ref"] == "${{ github.event.workflow_run.head_sha }}"


def test_versions_of_python_are_those_of_pyproject():
    versions = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert versions[0] == least and WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"] == versions
    for path in [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "environment.yml"]:
        assert set(re.findall(r"\b3\.1\d\b", path.read_text())) <= set(versions), path.name
    readme, how_to = (ROOT / "README.md").read_text(), (ROOT / "book" / "how-to.md").read_text()
    assert f"Python {least} to {versions[-1]}" in readme
    assert f"Python {least} or later" in readme and f"Python {least} or later" in how_to


def fake_python(path, version):
    """A program that answers to -c as a Python of another version would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = f"import sys; sys.version_info = ({version.replace('.', ', ')}, 0); exec(sys.argv[1])"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{changed}" "$2"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("named", "held", "said"),
    [
        ("3.10", None, r"needs Python 3\.11 or later; \S+ is 3\.10\. Name another"),
        ("3.12", "3.10", r"needs Python 3\.11 or later; \S+ holds 3\.10\. Remove it, or name another"),
        ("3.12", "3.11", r"is Python 3\.12, but \S+ holds 3\.11\. Remove"),
        ("3.9.1", "3.11", r"is Python 3\.9, but \S+ holds 3\.11\. Remove"),
    ],
)
def test_the_installer_refuses_a_python_that_is_too_old_or_not_the_one_that_was_named(named, held, said, tmp_path):
    environment = os.environ | {"PYTHON": fake_python(tmp_path / "python", named)}
    if held:
        fake_python(tmp_path / "venv" / "bin" / "python", held)
    command = [str(ROOT / ".ci" / "install"), str(tmp_path / "venv"), "lab"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and re.search(said, done.stdout), done.stdout + done.stderr


def test_make_looks_at_a_python_that_is_named_even_where_all_is_installed(tmp_path):
    for name in ("installed-lab", "venv/bin/python"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "venv" / ".installed-lab").touch()
    command = ["make", "--dry-run", "lab", f"VENV={tmp_path / 'venv'}"]
    runs = [subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, check=True).stdout
            for more in ([], ["PYTHON=python3.12"])]  # fmt: skip
    assert [".ci/install" in each for each in runs] == [False, True]


def test_the_readme_starts_with_the_two_commands_and_names_what_exists():
    text = (ROOT / "README.md").read_text()
    assert text.index("make book") < text.index("make test") < text.index("## Who it is for")
    for name in re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(r"\| `(\w+)/` \|", text):
        assert (ROOT / name).exists(), name
    for package in ("torch", "triton", "jupyter-book"):
        assert f"{package} {CONSTRAINTS[package]}" in text


def test_the_readme_names_the_parts_of_the_book():
    parts = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())["parts"]
    text = " ".join((ROOT / "README.md").read_text().split())
    assert [part["caption"] for part in parts if part["caption"] not in text] == []


def test_no_file_is_too_long_to_hold_in_mind():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for name in tracked or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if ".venv" not in path.parts]:
        if name.endswith((".py", ".js", ".css")):
            lines = len((ROOT / name).read_text().splitlines())
            assert lines <= (300 if name.startswith("kernels/") else 400), (name, lines)


OPENS = ("open", "read_text", "write_text", "NamedTemporaryFile", "run", "check_output", "Popen")


def test_text_is_read_and_written_as_utf_8_whatever_the_locale():
    """In an ASCII locale Python would take its own: every opening in text mode names the encoding."""
    paths = [path for room in ("effattn_core", "kernels", "figures", "book") for path in (ROOT / room).rglob("*.py")]
    nodes = [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    calls = [(path, node) for path, node in nodes if isinstance(node, ast.Call)]
    named = [(path, call, getattr(call.func, "attr", getattr(call.func, "id", ""))) for path, call in calls]
    assert len([name for _, _, name in named if name in OPENS]) > 20
    for path, call, name in named:
        if name not in OPENS:
            continue
        given = {each.arg for each in call.keywords}
        mode = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        text = {
            "open": not any("b" in each for each in mode[-1:]),
            "NamedTemporaryFile": bool(mode),  # binary unless it is told otherwise
        }.get(name, name.endswith("_text") or "text" in given)
        assert not text or "encoding" in given, f"{path.relative_to(ROOT)}:{call.lineno} names no encoding"


def installed_with(extra):
    """The distributions that come with an extra of this project, in small letters, and what they depend on."""
    optional = PROJECT["optional-dependencies"]
    found, left = set(), [*PROJECT["dependencies"], *optional[extra]]
    while left:
        wanted = Requirement(left.pop())
        name = canonicalize_name(wanted.name)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        if name == "effattn":
            left += [each for part in wanted.extras for each in optional[part]]
        elif name not in found:
            found.add(name)
            left += importlib.metadata.requires(name) or []
    return found


def test_what_builds_the_book_can_import_every_module_of_the_library():
    """The reference imports them all: `make book` on a fresh machine has only what its extra brings."""
    there, owners, lacking = installed_with("book"), importlib.metadata.packages_distributions(), []
    for path in sorted(
        path for package in ("effattn_core", "kernels", "figures") for path in (ROOT / package).rglob("*.py")
    ):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names):
                if not (ROOT / name).exists() and not there & {canonicalize_name(each) for each in owners[name]}:
                    lacking.append(f"{path.relative_to(ROOT)} imports {name}, which the extra `book` does not bring")
    assert lacking == []
