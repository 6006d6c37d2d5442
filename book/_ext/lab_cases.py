"""The hidden cases of the kernel exercises as JSON, by which the page judges: the same that the library's checks use.

A stored case has the fields of `effattn_core.judging.Case`. An argument that is a tensor is {"dtype", "shape",
"strides", "offset", "data"}: its storage in base64, so that a view stays a view; of a case that is `far` the first is
"sparse": its rows lie 2^30 elements apart, and `data` holds its elements alone. A number that JSON has not, such as
-inf, is {"number"}, as text. A result, wanted or mistaken, is {"dtype", "shape", "data"}.
"""

import base64
import math
from dataclasses import asdict

import torch

from effattn_core.exercises import exercise_of
from effattn_core.judging.verdict import in_tuple
from effattn_core.judging.watch import FAR


def cases(name):
    """The cases of exercise `name`, as they are stored. Raises ValueError for one that has none."""
    found = exercise_of(name)
    if found.cases is None:
        raise ValueError(f"exercise {name!r} has no cases: the page cannot check it.")
    return list(map(stored, found.cases()))


def stored(case):
    """A case in what JSON has."""
    arguments = list(map(_argument, case.arguments))
    if case.far:
        rows, columns = case.arguments[0].shape
        arguments[0] = _content(case.arguments[0]) | {"strides": [FAR // (rows - 1), 1], "sparse": True}
    mistakes = [
        ([each if each is None else _content(each) for each in in_tuple(given)], sentence)
        for given, sentence in case.mistakes
    ]
    wanted = list(map(_content, in_tuple(case.wanted)))
    return asdict(case.says) | {
        "arguments": arguments, "wanted": wanted, "written": case.written, "mistakes": mistakes, "grid": case.grid,
    }  # fmt: skip


def _argument(value):
    if isinstance(value, torch.Tensor):
        return _view(value)
    return {"number": str(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _content(tensor):
    """What a tensor holds, the last axis fastest."""
    flat = tensor.detach().cpu().contiguous()
    flat = flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat  # which numpy has not
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(tensor.shape), "data": base64.b64encode(flat.numpy().tobytes()).decode()}


def _view(tensor):
    """A tensor with its strides and all of its storage."""
    tensor = tensor.detach().cpu()
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    whole = _content(tensor.as_strided((size,), (1,), 0))
    return whole | {
        "shape": list(tensor.shape), "strides": list(tensor.stride()), "offset": tensor.storage_offset(),
    }  # fmt: skip
