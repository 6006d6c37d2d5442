"""The hidden cases of the kernel exercises as JSON, which the page judges by: the same that the library's checks use.

A tensor is {"dtype", "shape", "strides", "offset", "data"}: its storage in base64, so that a view stays a view. A case
has the fields of `effattn_core.primer.judge.Case`. What is not here: `judge_far`, whose tensor is larger than a page.
"""

import base64
import importlib
from dataclasses import fields
from unittest.mock import patch

import torch

from effattn_core.exercises import EXERCISES, checks_of
from effattn_core.primer.judge import Case

NAMES = ("primer.scale_add", "primer.rms_norm", "primer.linear_relu", "primer.row_attention")


def cases(name):
    """The cases of exercise `name`, as they are stored. Raises ValueError for one that hands none to `judge`."""
    module, found = importlib.import_module(checks_of(name)), []
    with patch.object(module, "judge", lambda function, given: found.extend(given)):
        with patch.object(module, "judge_far", lambda *given: None):
            EXERCISES[name].check(None)
    if not found:
        raise ValueError(f"exercise {name!r} hands no cases to judge: the page cannot check it.")
    return [stored(case) for case in found]


def stored(value):
    """A case, and what it holds, in what JSON has."""
    if isinstance(value, Case):
        return {each.name: stored(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, torch.Tensor):
        return _tensor(value.detach().cpu())
    if isinstance(value, (list, tuple)):
        return [stored(each) for each in value]
    return value


def _tensor(tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    data = tensor.as_strided((size,), (1,), 0).contiguous().numpy().tobytes()
    view = {"dtype": dtype, "shape": list(tensor.shape), "strides": list(tensor.stride())}
    return view | {"offset": tensor.storage_offset(), "data": base64.b64encode(data).decode()}
