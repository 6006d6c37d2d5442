"""What is true: oracles, modules, data, training and costs."""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from pathlib import Path

import kernels

__all__ = ["__version__", "reproducible", "topic_modules", "topics"]
SHARED = {"judging", "pretrained"}  # folders that topics share, like the files
try:
    __version__ = importlib.metadata.version("effattn")
except importlib.metadata.PackageNotFoundError:  # imported from a checkout that is not installed
    __version__ = "unknown"


def _require_our_kernels(kernels_file, here):
    """Raise ImportError unless `kernels_file` lies beside this package: another distribution ships the same name."""
    found, wanted = Path(kernels_file or "nowhere").resolve().parent, Path(here).resolve().parent.parent / "kernels"
    if found != wanted:
        raise ImportError(
            f"`kernels` was imported from {found}, but this book needs {wanted}: uninstall the other package."
        )


_require_our_kernels(kernels.__file__, __file__)


def topics():
    """The names of the topics, in their order: every folder of this package is one, but those of SHARED."""
    return sorted(each.name for each in pkgutil.iter_modules(__path__) if each.ispkg and each.name not in SHARED)


def topic_modules(room):
    """The module `room` of every topic that has one, in the order of topics: a new topic is found, not listed."""
    names = [f"{__name__}.{topic}.{room}" for topic in topics()]
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def reproducible(seed=0, threads=2):
    """Start a chapter: seed Python, NumPy and PyTorch, fix the number of CPU threads, say where kernels run here."""
    import random

    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    print(kernels.runtime.statement())
