"""What was found about kernels, kept between runs: JSON under a hash of the sources and versions that it came from.

Nothing depends on it: an entry that is missing, broken or not to be read is made again, and a write that fails is let
go. So a checkout that belongs to another user, or to nobody who may write, works as well, only slower.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path

import platformdirs

from kernels import runtime

ROOT = Path(__file__).resolve().parent.parent


def folders():
    """Where entries are looked for, in this order; one is kept in the first that takes it.

    EFFATTN_CACHE of the environment names the only one. Without it: the checkout's .cache, which `make clean` removes
    and which may be another's; then the cache folder of the user, the only one of an installed package.
    """
    if os.environ.get("EFFATTN_CACHE"):
        return [Path(os.environ["EFFATTN_CACHE"]).expanduser().absolute()]
    users = platformdirs.user_cache_path("effattn", appauthor=False)
    return [ROOT / ".cache", users] if (ROOT / "pyproject.toml").is_file() else [users]


def load(name, decode):
    """decode(content) of the first entry of this name that can be read and decoded, else None."""
    for folder in folders():
        with contextlib.suppress(OSError, ValueError, TypeError):
            return decode(json.loads((folder / name).read_text(encoding="utf-8")))
    return None


def store(name, content):
    """Keep the content: written aside, then renamed, since another process may be making the same entry."""
    for folder in folders():
        with contextlib.suppress(OSError), whole_file(folder / name) as aside:
            aside.write_text(json.dumps(content), encoding="utf-8")
            return


@contextlib.contextmanager
def whole_file(path):
    """The path to write to instead of `path`, which it becomes at the end; on an error `path` stays what it was.

    Folders that are missing are made. The file has the mode that the user's umask gives any file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def fingerprint(first, packages):
    """A hash of the source `first`, of all of this repository that it and the compiling use, and of versions.

    Raises ValueError for a distribution that is not installed.
    """
    versions = [runtime.triton_version()]
    for name in ("torch", *packages):
        try:
            versions.append(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"needs the distribution {name}, which is not installed.") from None
    text = "\n".join(versions + sources([first, ROOT / "kernels" / "compile.py"], ROOT))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(module, root=None):
    """The file of a module by its dotted name, or None if this repository has none."""
    path = (root or ROOT).joinpath(*module.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def sources(first, root):
    """The texts of some files and of all that they import from this repository, in turn."""
    texts, waiting = {}, list(first)
    while waiting:
        path = waiting.pop()
        texts[path] = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(texts[path])):
            names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{name}" for name in names)]
            waiting += {found for name in names if (found := file_of(name, root))} - set(texts)
    return [texts[path] for path in sorted(texts)]
