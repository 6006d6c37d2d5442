"""The kernels take SmolLM2's shapes: its own queries, keys and values, nine heads on three, 64 numbers each."""

import pytest
import torch
from support.placed import by_the_pinned_compiler
from torch.nn.functional import scaled_dot_product_attention

from effattn_core import pretrained
from effattn_core.attention import attention
from effattn_core.pretrained import probe
from kernels import inspect, runtime
from kernels.sanitize import sanitize

TIME = 97  # which no block divides
DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"


@pytest.fixture(scope="module")
def layers():
    """(query, key, value) of the first layer, whose keys are large, of one in the middle, and of the last."""
    model, tokenizer = pretrained.load("smollm2", device="cpu", context=128)
    states = probe.recorded(model, probe.passages(tokenizer, 1, TIME))
    return {layer: (states[layer].query, states[layer].key, states[layer].value) for layer in (0, 15, 29)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layer", [0, 15, 29])
@pytest.mark.parametrize("mask", [{}, dict(window=30, sinks=2)], ids=["whole", "window and sinks"])
def test_a_layer_is_read_as_the_oracle_reads_it(layers, layer, dtype, mask):
    inputs = [tensor.to(DEVICE, dtype) for tensor in layers[layer]]
    wide = [tensor.double() for tensor in inputs]
    truth = attention(*wide, **mask, implementation="oracle")
    distance = torch.arange(TIME)[:, None] - torch.arange(TIME)
    seen = distance >= 0
    if mask:
        seen &= (distance < mask["window"]) | (torch.arange(TIME) < mask["sinks"])
    plain = scaled_dot_product_attention(*inputs, attn_mask=seen.to(DEVICE), enable_gqa=True)
    budget = 2 * (plain.double() - truth).abs().max().item()
    found = attention(*inputs, **mask, implementation="triton")
    error = (found.double() - truth).abs().max().item()
    token = attention(inputs[0][:, :, -1:], *inputs[1:], **mask, implementation="triton")
    error = max(error, (token.double() - truth[:, :, -1:]).abs().max().item())
    print(f"layer {layer}: largest error {error:.1e}, budget {budget:.1e}")
    assert error <= budget


@pytest.mark.skipif(runtime.mode != "interpreter", reason="only interpreted programs can be watched")
def test_no_lane_strays_and_no_two_programs_meet(layers):
    query, key, value = layers[15]
    leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]

    def both_ways():
        attention(*leaves, implementation="triton").sum().backward()
        attention(query[:, :, -1:], key, value, implementation="triton")

    found = sanitize(both_ways)
    print(found)
    assert not found


@by_the_pinned_compiler
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_its_launches_compile_without_spilling(architecture, dtype):
    survey = inspect.survey("tests/pretrained/launches.py", architecture, (dtype,), (64,))
    for report in survey[dtype, 64]:
        print(report)
        assert report.spills == 0 and report.instructions["local (spills)"] == 0, report.kernel
