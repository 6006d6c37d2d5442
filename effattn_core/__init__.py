"""What is true: oracles, modules, data, training and costs."""

import importlib
import pkgutil
from pathlib import Path

import kernels


def _require_our_kernels(kernels_file, here):
    """Raise ImportError unless `kernels_file` lies beside this package: another distribution ships the same name."""
    found, wanted = Path(kernels_file or "nowhere").resolve().parent, Path(here).resolve().parent.parent / "kernels"
    if found != wanted:
        raise ImportError(
            f"`kernels` was imported from {found}, but this book needs {wanted}: uninstall the other package."
        )


_require_our_kernels(kernels.__file__, __file__)


def topic_modules(room):
    """The modules `<room>_<topic>` of this package, in the order of their names: a new topic is found, not listed."""
    names = sorted(each.name for each in pkgutil.iter_modules(__path__) if each.name.startswith(f"{room}_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


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
