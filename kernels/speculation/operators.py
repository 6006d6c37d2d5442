"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU. Decoding has no gradient."""

import torch

from kernels.runtime import interpretable
from kernels.speculation.head import launch_head
from kernels.speculation.tree import launch_tree

__all__ = ["subset_head", "tree_attention"]


def run_head(hidden, weight, table, top_k):
    """Launch the head over the table's words, and the merge of its lists."""
    return launch_head(interpretable(hidden), interpretable(weight), table, top_k)


def run_tree(query, key, value, masks, scale):
    """Launch the attention of a tree, and its merge."""
    output, log_sum_exp = launch_tree(*(interpretable(each) for each in (query, key, value)), masks, scale)
    return output.to(query.dtype), log_sum_exp


def _operator(name, run, schema):
    return torch.library.custom_op(
        f"effattn::{name}", run, mutates_args=(), device_types=("cpu", "cuda"), schema=schema
    )


subset_head = _operator(
    "subset_head", run_head, "(Tensor hidden, Tensor weight, Tensor table, int top_k) -> (Tensor, Tensor, Tensor)"
)
tree_attention = _operator(
    "tree_attention",
    run_tree,
    "(Tensor query, Tensor key, Tensor value, Tensor masks, float scale) -> (Tensor, Tensor)",
)


@subset_head.register_fake
def _(hidden, weight, table, top_k):
    count, wide = hidden.shape[0], dict(dtype=torch.float32)
    return (
        hidden.new_empty((count, top_k), **wide),
        table.new_empty((count, top_k)),
        hidden.new_empty((count,), **wide),
    )


@tree_attention.register_fake
def _(query, key, value, masks, scale):
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.float32)
