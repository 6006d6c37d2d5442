"""What the repository says of itself, each thing from the one place where it is written."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "_build" / "html"
COLAB_BRANCH = "colab"  # holds what `make colab` writes; .ci/publish-colab pushes it


def address():
    """The repository's address, of _config.yml."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"].rstrip("/")


def site(url=None):
    """The address of the published pages, which follows from the repository's."""
    owner, name = (url or address()).rstrip("/").split("/")[-2:]
    return f"https://{owner}.github.io/{name}/"


def project():
    """The table `project` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def carriers():
    """The wheels that are installed without what they depend on, of .ci/install."""
    text = (ROOT / ".ci" / "install").read_text(encoding="utf-8")
    return re.search(r'^carriers="([^"]+)"', text, re.MULTILINE)[1].split()


def commit(length=None):
    """The commit that is checked out, in full or its first `length` letters; a word where there is no git."""
    short = [] if length is None else [f"--short={length}"]
    try:
        command = ["git", "rev-parse", *short, "HEAD"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def require_built(folder=BUILT):
    """Raise SystemExit with what to do where the pages are not built."""
    if not (folder / "index.html").exists():
        raise SystemExit(f"there are no built pages in {folder}: run `make book` first.")
    return folder
