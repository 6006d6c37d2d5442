"""The kernels as `torch.library` operators: the device picks the implementation, torch.compile follows.

`effattn_core.indexing` adds the CPU implementations. `implementation` matters there only: "triton" interprets the
kernels, anything else runs the forms in PyTorch. Decoding trains nothing, so there is no gradient.
"""

import torch

from kernels.indexing.decode import launch_attention, launch_gather
from kernels.indexing.select import launch_select


def run_select(query, key, weight, top_k, local, implementation):
    """Launch scoring with a running top-k, and the merge of its lists."""
    return launch_select(query, key, weight, top_k, local)


def run_gather(key, value, rows, implementation):
    """Launch the copy of the chosen rows."""
    return launch_gather(key, value, rows)


def run_attention(query, key, value, rows, gathered_already, scale, implementation):
    """Launch attention over the rows, and its merge."""
    return launch_attention(query, key, value, rows, gathered_already, scale)


def _operator(name, run, schema):
    return torch.library.custom_op(f"effattn::{name}", run, mutates_args=(), device_types="cuda", schema=schema)


index_select = _operator(
    "index_select", run_select,
    "(Tensor query, Tensor key, Tensor weight, int top_k, int local, str implementation) -> (Tensor, Tensor)",
)  # fmt: skip
index_gather = _operator(
    "index_gather", run_gather, "(Tensor key, Tensor value, Tensor rows, str implementation) -> (Tensor, Tensor)"
)
index_attention = _operator(
    "index_attention", run_attention,
    "(Tensor query, Tensor key, Tensor value, Tensor rows, bool gathered_already, float scale, str implementation)"
    " -> (Tensor, Tensor)",
)  # fmt: skip


@index_select.register_fake
def _(query, key, weight, top_k, local, implementation):
    shape, wide = (query.shape[0], top_k), torch.promote_types(query.dtype, torch.float32)
    return query.new_empty(shape, dtype=torch.int32), query.new_empty(shape, dtype=wide)


@index_gather.register_fake
def _(key, value, rows, implementation):
    return tuple(each.new_empty(*each.shape[:2], rows.shape[1], each.shape[3]) for each in (key, value))


@index_attention.register_fake
def _(query, key, value, rows, gathered_already, scale, implementation):
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
