"""Decoding over pruned channels as a `torch.library` operator: the device picks, torch.compile follows.

`effattn_core.channels` adds the CPU implementation. `implementation` matters there only: "triton" interprets the
kernels, anything else runs the grouped PyTorch form. Decoding is not trained through, so there is no gradient.
"""

import torch

from kernels.channels.decode import launch_decode


def run_decode(query, dense_key, dense_value, keys, values, channels, scale, implementation):
    """(output, log_sum_exp) of one token a head."""
    return launch_decode(query, dense_key, dense_value, keys, values, channels, scale)


TENSORS = "Tensor query, Tensor dense_key, Tensor dense_value, Tensor[] keys, Tensor[] values, Tensor[] channels"
channels_decode = torch.library.custom_op(
    "effattn::channels_decode",
    run_decode,
    mutates_args=(),
    device_types="cuda",
    schema=f"({TENSORS}, float scale, str implementation) -> (Tensor, Tensor)",
)


@channels_decode.register_fake
def _(query, dense_key, dense_value, keys, values, channels, scale, implementation):
    output = query.new_empty(*query.shape[:3], dense_value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
