"""Tensors for the tests of blocks: queries, keys, lists of blocks."""

import pytest
import torch

from kernels import runtime

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


def tensors(time, dtype=torch.float64, *, group=4, key_heads=2, head_dim=32, value_dim=None, tokens=1, strided=False):
    """(query, key, value), of a batch of two; strided: [batch, time, heads, size] in memory."""
    generator = torch.Generator().manual_seed(time)
    shapes = [(group * key_heads, tokens, head_dim), (key_heads, time, head_dim),
              (key_heads, time, value_dim or head_dim)]  # fmt: skip
    made = [torch.randn(2, *shape, generator=generator) for shape in shapes]
    if strided:
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made]
    return [each.to(DEVICE, dtype) for each in made]


def lists_of(time, block_size, lists, count, seed=0, padding=0):
    """Different blocks for each list, in no order, the last `padding` entries -1: [2, lists, count]."""
    blocks, generator = -(-time // block_size), torch.Generator().manual_seed(seed)
    order = torch.rand(2, lists, blocks, generator=generator).argsort(-1)[..., :count]
    if padding:
        order = torch.cat([order, torch.full((2, lists, padding), -1)], -1)
    return order.to(DEVICE)


def far(ours, truth):
    return [(a.double() - b).abs().max().item() for a, b in zip(ours, truth, strict=True)]
