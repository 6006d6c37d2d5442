"""Tiles that retention takes: others where Triton has a known fault, and right in those, too."""

import pytest
import torch
from support.placed import DEVICE

from effattn_core.retention import retention
from kernels import runtime
from kernels.retention.configurations import choose

HALF = torch.bfloat16 if DEVICE == "cuda" else torch.float16  # the interpreter's bfloat16 is wrong
BACKWARD = ("grad_value", "grad_query_key")


@pytest.fixture(params=[False, True], ids=["sound", "faulty"])
def fault(request, monkeypatch):
    """Whether this Triton is one with a known fault."""
    monkeypatch.setattr(runtime, "known_fault", lambda: "It can give wrong gradients." if request.param else "")
    return request.param


@pytest.mark.skipif(runtime.mode == "none", reason="kernels are not run here")
def test_gradients_in_two_bytes_take_narrow_tiles_where_triton_has_a_known_fault(fault, monkeypatch):
    monkeypatch.setattr(runtime, "architecture", lambda: 90)
    for kernel in BACKWARD:
        found = choose(kernel, HALF, 64, 128)
        tiles = tuple(found[name] for name in ("BLOCK_KEY", "BLOCK_VALUE", "num_warps", "num_stages"))
        assert (tiles == (32, 32, 4, 1)) == fault, kernel
        assert choose(kernel, torch.float32, 64, 128)["PRECISION"] == "tf32x3"
    for kernel in ("states", "outputs"):
        assert choose(kernel, HALF, 64, 128)["BLOCK_VALUE"] == 64, kernel


@pytest.mark.skipif(runtime.mode == "none", reason="kernels are not run here")
@pytest.mark.parametrize(("key_dim", "value_dim"), [(32, 128), (64, 32), (64, 64), (128, 64)])
def test_gradients_are_right_in_the_tiles_of_a_triton_with_a_known_fault(key_dim, value_dim, monkeypatch):
    monkeypatch.setattr(runtime, "known_fault", lambda: "It can give wrong gradients.")
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(1, 1, 65, dim, generator=generator) for dim in (key_dim, key_dim, value_dim, value_dim)]
    *inputs, weight = (each.to(DEVICE, HALF) for each in given)
    decay = torch.tensor([0.9], device=DEVICE)

    def gradients(implementation):
        leaves = [each.clone().requires_grad_() for each in inputs]
        output, _ = retention(*leaves, decay, implementation=implementation)
        return torch.autograd.grad(output, leaves, weight)

    for what, ours, truth in zip("query key value".split(), gradients("triton"), gradients("oracle"), strict=True):
        error = ((ours.double() - truth.double()).abs().max() / truth.double().abs().max()).item()
        assert error <= 4 * torch.finfo(HALF).eps, what
