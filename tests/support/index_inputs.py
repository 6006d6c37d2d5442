"""Tensors for the tests of one shared index: queries, keys, lists of rows."""

import pytest
import torch

from kernels import runtime

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"
HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
interpreted = pytest.mark.skipif(runtime.mode != "interpreter", reason="kernels are not interpreted here")


def tensors(time, dtype=torch.float64, *, group=4, head_dim=32, value_dim=None, strided=False, batch=2):
    """(query, key, value) with two key heads; strided: [batch, time, heads, size] in memory."""
    generator = torch.Generator().manual_seed(time)
    shapes = [(2 * group, 1, head_dim), (2, time, head_dim), (2, time, value_dim or head_dim)]
    made = [torch.randn(batch, *shape, generator=generator) for shape in shapes]
    if strided:
        made = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in made]
    return [each.to(DEVICE, dtype) for each in made]


def asked(time, dtype=torch.float64, *, heads=4, index_dim=16, batch=1, strided=False):
    """(query, key, weight) of an indexer; strided: key and weight as projections leave them."""
    generator = torch.Generator().manual_seed(time + heads)
    query, key, weight = (torch.randn(batch, *shape, generator=generator).to(DEVICE, dtype)
                          for shape in ((heads, 1, index_dim), (1, time, 2 * index_dim), (1, heads)))  # fmt: skip
    key = key[..., ::2] if strided else key[..., :index_dim].contiguous()
    return query, key, weight.transpose(1, 2)


def rows_of(time, count, seed=0, padding=0, batch=2):
    """Different rows, in no order, the last `padding` entries -1: [batch, count + padding]."""
    order = torch.rand(batch, time, generator=torch.Generator().manual_seed(seed)).argsort(-1)[:, :count]
    return torch.cat([order, order.new_full((batch, padding), -1)], 1).to(DEVICE)


def far(ours, truth):
    return [(a.double() - b).abs().max().item() for a, b in zip(ours, truth, strict=True)]
