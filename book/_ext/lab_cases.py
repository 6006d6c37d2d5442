"""The hidden cases of the kernel exercises as JSON, which the page judges by: the same that the library's checks use.

A tensor is {"dtype", "shape", "strides", "offset", "data"}: its storage in base64, so that a view stays a view. A case
has the fields of `effattn_core.primer.judge.Case`, and `far`: its first tensor is sparse, with rows 2^30 elements apart
as `judge_far` has them, and `data` holds its elements alone.
"""

import base64
import importlib
from dataclasses import fields
from unittest.mock import patch

import torch

from effattn_core.exercises import EXERCISES, checks_of
from effattn_core.primer.judge import WIDE, Case, random
from effattn_core.primer.watch import FAR


def cases(name):
    """The cases of exercise `name`, as they are stored. Raises ValueError for one that hands none to `judge`."""
    module, found = importlib.import_module(checks_of(name)), []
    with (
        patch.object(module, "judge", lambda function, given: found.extend(stored(each) for each in given)),
        patch.object(module, "judge_far", lambda *given: found.append(far(*given)), create=True),
    ):
        EXERCISES[name].check(None)
    if not found:
        raise ValueError(f"exercise {name!r} hands no cases to judge: the page cannot check it.")
    return found


def far(function, rows, columns, wanted, *rest):
    """The case that `judge_far` makes of the same arguments."""
    source = random(rows, columns).half()
    what, hint = "a tensor of more than 2^31 elements", "the result differs from that of near rows."
    case = stored(Case(what, (source, *rest), wanted(source), hint, stray=WIDE)) | {"far": True}
    case["arguments"][0] |= {"strides": [FAR // (rows - 1), 1], "sparse": True}
    return case


def stored(value):
    """A case, and what it holds, in what JSON has."""
    if isinstance(value, Case):
        return {each.name: stored(getattr(value, each.name)) for each in fields(value)} | {"far": False}
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
