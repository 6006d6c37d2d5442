"""The launches of one of SmolLM2's layers, for `kernels.inspect`: nine query heads on three key heads of 64."""

import torch

from kernels.attention import launch_backward, launch_decode, launch_forward

HEADS, KEY_HEADS, HEAD_DIM = 9, 3, 64


def example_launches(dtype=torch.float32, head_dim=HEAD_DIM, device="cpu"):
    """Forward, backward and a decoded token, whole and through a window with sinks."""
    query = torch.zeros(1, HEADS, 256, head_dim, dtype=dtype, device=device)
    key = torch.zeros(1, KEY_HEADS, 256, head_dim, dtype=dtype, device=device)
    for window, sinks in ((None, 0), (128, 4)):
        arguments = (True, window, sinks, head_dim**-0.5)
        output, log_sum_exp = launch_forward(query, key, key, *arguments)
        launch_backward(output, log_sum_exp, query, key, key, output, log_sum_exp, *arguments)
        launch_decode(query[:, :, :1], key, key, window, sinks, head_dim**-0.5)
