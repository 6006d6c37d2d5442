"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU. Forward alone."""

import torch

from kernels.coattention.columns import launch_column_mass
from kernels.coattention.fusion import launch_fusion
from kernels.coattention.sparse import launch_graph_attention
from kernels.runtime import interpretable


def run_fusion(region, context, weight, value, normalised):
    """Launch bilinear fusion."""
    output, log_sum_exp = launch_fusion(*(interpretable(each) for each in (region, context, weight, value)), normalised)
    return output.to(value.dtype), log_sum_exp


def run_graph_attention(query, key, value, tiles, first, column, scale):
    """Launch attention over live blocks."""
    inputs = [interpretable(each) for each in (query, key, value)]
    output, log_sum_exp = launch_graph_attention(*inputs, tiles, first, column, scale)
    return output.to(value.dtype), log_sum_exp


def run_column_mass(query, key, log_sum_exp, scale, causal):
    """Launch the pass over columns."""
    return launch_column_mass(interpretable(query), interpretable(key), log_sum_exp, scale, causal)


def _operator(name, run, schema):
    return torch.library.custom_op(
        f"effattn::{name}", run, mutates_args=(), device_types=("cpu", "cuda"), schema=schema
    )


fusion_forward = _operator(
    "fusion_forward",
    run_fusion,
    "(Tensor region, Tensor context, Tensor weight, Tensor value, bool normalised) -> (Tensor, Tensor)",
)
graph_attention_forward = _operator(
    "graph_attention_forward",
    run_graph_attention,
    "(Tensor query, Tensor key, Tensor value, Tensor tiles, Tensor first, Tensor column, float scale)"
    " -> (Tensor, Tensor)",
)
column_mass = _operator(
    "column_mass",
    run_column_mass,
    "(Tensor query, Tensor key, Tensor log_sum_exp, float scale, bool causal) -> Tensor",
)


@fusion_forward.register_fake
def _(region, context, weight, value, normalised):
    shape = (len(region), len(weight), context.shape[1])
    return value.new_empty(*shape, value.shape[2]), value.new_empty(shape, dtype=torch.float32)


@graph_attention_forward.register_fake
def _(query, key, value, tiles, first, column, scale):
    return value.new_empty(*query.shape[:2], value.shape[2]), query.new_empty(query.shape[:2], dtype=torch.float32)


@column_mass.register_fake
def _(query, key, log_sum_exp, scale, causal):
    return query.new_empty(query.shape[:2], dtype=torch.float32)
