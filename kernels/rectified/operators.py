"""The kernels as `torch.library` operators: the device picks the implementation, torch.compile follows.

`effattn_core.rectified` adds the CPU implementations. `implementation` matters there only: "triton" interprets the
kernels, anything else runs the forms in PyTorch. Decoding trains nothing, so there is no gradient.
"""

import torch

from kernels.rectified.decode import launch_decode
from kernels.rectified.scores import launch_scores


def run_scores(query, lowest, highest, scale, shared, implementation):
    """Launch the selection scores."""
    return launch_scores(query, lowest, highest, scale, shared)


def run_attention(query, key, value, blocks, block_size, scale, implementation):
    """Launch decoding over the blocks, and its merge."""
    return launch_decode(query, key, value, blocks, block_size, scale)


block_scores_forward = torch.library.custom_op(
    "effattn::block_scores_forward",
    run_scores,
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor query, Tensor lowest, Tensor highest, float scale, bool shared, str implementation) -> Tensor",
)
block_attention_forward = torch.library.custom_op(
    "effattn::block_attention_forward",
    run_attention,
    mutates_args=(),
    device_types="cuda",
    schema="(Tensor query, Tensor key, Tensor value, Tensor blocks, int block_size, float scale, str implementation)"
    " -> (Tensor, Tensor)",
)


@block_scores_forward.register_fake
def _(query, lowest, highest, scale, shared, implementation):
    lists = lowest.shape[1] if shared else query.shape[1]
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.new_empty(query.shape[0], lists, lowest.shape[2], dtype=wide)


@block_attention_forward.register_fake
def _(query, key, value, blocks, block_size, scale, implementation):
    output = query.new_empty(*query.shape[:3], value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
