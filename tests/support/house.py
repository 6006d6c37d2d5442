"""What several test files share: where things are, what the chapters are, how the book is built."""

import importlib
import shutil
import sys
from pathlib import Path

import yaml
from support.processes import finished

from effattn_core.exercises import grade

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT / "book" / "measurements"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)


def chapters():
    """The pages of the table of contents, as paths without an ending."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [toc["root"], *(each["file"] for part in toc["parts"] for each in part["chapters"])]


def notebooks():
    """The stored notebooks of the chapters."""
    return [path for name in chapters() if (path := ROOT / "book" / f"{name}.ipynb").exists()]


def driver(name):
    """The driver "topic/file" of a measurement, as its command finds it: its own folder first, all of it anew."""
    path = MEASUREMENTS / f"{name}.py"
    for each in path.parent.glob("*.py"):
        sys.modules.pop(each.stem, None)
    sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.stem)
    finally:
        sys.path.remove(str(path.parent))


def never(*given, **settings):
    """Stands in for what a driver makes, where it must go on from what is finished."""
    raise AssertionError("what is finished is not made again")


def assert_solved(name, solution):
    """An exercise's unsolved stub fails its check, and its solution passes. `...` stands for a number not yet known."""

    def unsolved(*arguments):
        raise NotImplementedError

    assert "not written yet" in grade(name, unsolved if callable(solution) else ...).reason
    verdict = grade(name, solution)
    assert verdict.passed, verdict


def assert_named(name, mistake, sentence):
    """A known mistake fails an exercise's check, which says what it is."""
    verdict = grade(name, mistake)
    assert not verdict.passed and sentence in verdict.reason, verdict


def build(root, target):
    """Build the book under `root` into `target`, warnings as errors. Returns the finished process."""
    tool = Path(sys.executable).parent / "jupyter-book"
    command = [str(tool), "build", "book", "--config", "_config.yml", "--path-output", str(target), "-W", "-n"]
    return finished([*command, "--keep-going"], cwd=root)
