"""Decoding over pruned channels as a `torch.library` operator: compiled on a GPU, interpreted on a CPU; no gradient."""

import torch

from kernels.channels.decode import launch_decode
from kernels.runtime import interpretable


def run_decode(query, dense_key, dense_value, keys, values, channels, scale):
    """(output, log_sum_exp) of one token a head."""
    whole = [interpretable(each) for each in (query, dense_key, dense_value)]
    keys, values = ([interpretable(each) for each in group] for group in (keys, values))
    output, log_sum_exp = launch_decode(*whole, keys, values, channels, scale)
    return output.to(query.dtype), log_sum_exp


TENSORS = "Tensor query, Tensor dense_key, Tensor dense_value, Tensor[] keys, Tensor[] values, Tensor[] channels"
channels_decode = torch.library.custom_op(
    "effattn::channels_decode",
    run_decode,
    mutates_args=(),
    device_types=("cpu", "cuda"),
    schema=f"({TENSORS}, float scale) -> (Tensor, Tensor)",
)


@channels_decode.register_fake
def _(query, dense_key, dense_value, keys, values, channels, scale):
    output = query.new_empty(*query.shape[:3], dense_value.shape[3])
    return output, query.new_empty(query.shape[:3], dtype=torch.float32)
