"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU. Decoding has no gradient."""

import torch

from kernels.indexing.configurations import INDEX_DIMS, MOST
from kernels.indexing.decode import launch_attention, launch_gather
from kernels.indexing.select import launch_select
from kernels.runtime import interpretable

__all__ = ["INDEX_DIMS", "INDEX_HEADS", "MOST", "index_attention", "index_gather", "index_select"]

INDEX_HEADS = 64  # the most that one tile of scores holds


def run_select(query, key, weight, top_k, local):
    """Launch scoring with a running top-k, and the merge of its lists."""
    return launch_select(*(interpretable(each) for each in (query, key, weight)), top_k, local)


def run_gather(key, value, rows):
    """Launch the copy of the chosen rows; one that is not there gives zeros, as -1 does."""
    rows = torch.where(rows < key.shape[2], rows, -1)
    return tuple(each.to(key.dtype) for each in launch_gather(interpretable(key), interpretable(value), rows))


def run_attention(query, key, value, rows, gathered_already, scale):
    """Launch attention over the rows, and its merge."""
    inputs = [interpretable(each) for each in (query, key, value)]
    output, log_sum_exp = launch_attention(*inputs, rows, gathered_already, scale)
    return output.to(query.dtype), log_sum_exp


def _operator(name, run, schema):
    return torch.library.custom_op(
        f"effattn::{name}", run, mutates_args=(), device_types=("cpu", "cuda"), schema=schema
    )


index_select = _operator(
    "index_select", run_select, "(Tensor query, Tensor key, Tensor weight, int top_k, int local) -> (Tensor, Tensor)"
)
index_gather = _operator("index_gather", run_gather, "(Tensor key, Tensor value, Tensor rows) -> (Tensor, Tensor)")
index_attention = _operator(
    "index_attention",
    run_attention,
    "(Tensor query, Tensor key, Tensor value, Tensor rows, bool gathered_already, float scale) -> (Tensor, Tensor)",
)


@index_select.register_fake
def _(query, key, weight, top_k, local):
    shape = query.shape[0], top_k
    return query.new_empty(shape, dtype=torch.int32), query.new_empty(shape, dtype=torch.float32)


@index_gather.register_fake
def _(key, value, rows):
    return tuple(each.new_empty(*each.shape[:2], rows.shape[1], each.shape[3]) for each in (key, value))


@index_attention.register_fake
def _(query, key, value, rows, gathered_already, scale):
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.float32)
