"""What several test files share: where things are, what the chapters are, how the book is built."""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def chapters():
    """The pages of the table of contents, as paths without an ending."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    return [toc["root"], *(each["file"] for part in toc["parts"] for each in part["chapters"])]


def notebooks():
    """The stored notebooks of the chapters."""
    return [path for name in chapters() if (path := ROOT / "book" / f"{name}.ipynb").exists()]


def build(root, target):
    """Build the book under `root` into `target`, warnings as errors. Returns the finished process."""
    tool = Path(sys.executable).parent / "jupyter-book"
    command = [str(tool), "build", "book", "--config", "_config.yml", "--path-output", str(target), "-W", "-n"]
    return subprocess.run([*command, "--keep-going"], cwd=root, capture_output=True, text=True)
