"""The kernels as `torch.library` operators: compiled on a GPU, interpreted on a CPU. Decoding has no gradient."""

import torch

from kernels.rectified.decode import launch_decode
from kernels.rectified.rectify import launch_rectify
from kernels.rectified.scores import launch_scores
from kernels.runtime import interpretable


def run_scores(query, lowest, highest, scale, shared):
    """Launch the selection scores."""
    return launch_scores(*(interpretable(each) for each in (query, lowest, highest)), scale, shared)


def run_attention(query, key, value, blocks, block_size, scale):
    """Launch decoding over the blocks, and its merge."""
    inputs = [interpretable(each) for each in (query, key, value)]
    output, log_sum_exp = launch_decode(*inputs, blocks, block_size, scale)
    return output.to(query.dtype), log_sum_exp


def run_rectify(query, key, value, scale):
    """Launch the dense pass of the newest tokens, and its merge."""
    output, log_sum_exp = launch_rectify(*(interpretable(each) for each in (query, key, value)), scale)
    return output.to(query.dtype), log_sum_exp


def _operator(name, run, schema):
    return torch.library.custom_op(
        f"effattn::{name}", run, mutates_args=(), device_types=("cpu", "cuda"), schema=schema
    )


block_scores_forward = _operator(
    "block_scores_forward",
    run_scores,
    "(Tensor query, Tensor lowest, Tensor highest, float scale, bool shared) -> Tensor",
)
block_attention_forward = _operator(
    "block_attention_forward",
    run_attention,
    "(Tensor query, Tensor key, Tensor value, Tensor blocks, int block_size, float scale) -> (Tensor, Tensor)",
)
rectify_forward = _operator(
    "rectify_forward", run_rectify, "(Tensor query, Tensor key, Tensor value, float scale) -> (Tensor, Tensor)"
)


@block_scores_forward.register_fake
def _(query, lowest, highest, scale, shared):
    lists = lowest.shape[1] if shared else query.shape[1]
    return query.new_empty(query.shape[0], lists, lowest.shape[2], dtype=torch.float32)


def _part_like(query, value):
    """The output and log-sum-exp that a launch will return, empty."""
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.float32)


@block_attention_forward.register_fake
def _(query, key, value, blocks, block_size, scale):
    return _part_like(query, value)


@rectify_forward.register_fake
def _(query, key, value, scale):
    return _part_like(query, value)
