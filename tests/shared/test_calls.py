"""One way to call: what every topic's calls answer alike, one table of calls against one table of questions.

A new call joins CALLS with arguments that its kernels take; every question is then asked of it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

from effattn_core.attention import attention, attention_part
from effattn_core.channels import decode
from effattn_core.indexing import gather_rows, row_attention, select_rows
from effattn_core.rectified import block_attention, block_bounds, bound_scores, dense_pass
from effattn_core.recurrences import recurrence
from effattn_core.retention import retention
from effattn_core.speculation import packed, tree_attention
from kernels import runtime

DEVICE = "cuda" if runtime.mode == "gpu" else "cpu"


class Call(NamedTuple):
    """A public call, and arguments of float32 that its kernels take. other: the argument that is put elsewhere."""

    function: Callable
    arguments: dict
    other: str
    scaled: bool = True
    refusal: str = "head_dim"  # the size that the kernels name when theirs does not fit


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


def on(**given):
    return {name: each.to(DEVICE) if isinstance(each, torch.Tensor) else each for name, each in given.items()}


TOKEN, TEXT = drawn(1, 4, 1, 32), dict(key=drawn(1, 2, 40, 32), value=drawn(1, 2, 40, 32))
LOWEST, HIGHEST = block_bounds(TEXT["key"], 16)
ROWS = torch.tensor([[3, 7, -1, 20]])
ASK = dict(query=drawn(1, 4, 1, 16), key=drawn(1, 1, 40, 16), weight=drawn(1, 4, 1))
THIN = dict(keys=[drawn(1, 1, 20, 8)], values=[drawn(1, 1, 20, 32)], channels=[torch.arange(8, device=DEVICE)[None]])
LINES = dict(query=drawn(2, 4, 40, 32), key=drawn(2, 4, 40, 32), value=drawn(2, 4, 40, 32))
GATE = -drawn(2, 4, 40, 32).abs()
CALLS = {
    "retention": Call(retention, dict(decay=drawn(4).sigmoid()) | LINES, "decay", refusal="key_dim"),
    "recurrence, a gate per head": Call(
        recurrence, dict(rule="gated", log_gate=GATE[..., 0]) | LINES, "log_gate", refusal="key_dim"
    ),
    "recurrence, a gate per key dimension": Call(
        recurrence, dict(rule="gla", log_gate=GATE) | LINES, "log_gate", refusal="key_dim"
    ),
    "attention": Call(attention, dict(query=drawn(1, 4, 40, 32)) | TEXT, "key"),
    "attention of a token": Call(attention_part, dict(query=TOKEN) | TEXT, "query"),
    "rectified scores": Call(bound_scores, dict(query=TOKEN, lowest=LOWEST, highest=HIGHEST), "lowest"),
    "rectified blocks": Call(
        block_attention, on(query=TOKEN, blocks=torch.tensor([[[0, 2], [1, -1]]]), block_size=16, **TEXT), "blocks"
    ),
    "rectified pass": Call(dense_pass, dict(query=drawn(1, 4, 5, 32)) | TEXT, "value", scaled=False),
    "indexing rows": Call(select_rows, dict(top_k=5) | ASK, "key", scaled=False, refusal="index_dim"),
    "indexing gather": Call(gather_rows, on(rows=ROWS, **TEXT), "rows", scaled=False),
    "indexing attention": Call(row_attention, on(query=TOKEN, rows=ROWS, **TEXT), "rows"),
    "speculation tree": Call(
        tree_attention, on(query=drawn(1, 4, 5, 32), masks=packed(torch.tensor([-1, 0, 0, 2]))[None], **TEXT), "masks"
    ),
    "channels": Call(
        decode, dict(query=TOKEN, dense_key=TEXT["key"], dense_value=TEXT["value"], **THIN), "dense_value"
    ),
}


def changed(arguments, change):
    """The arguments with `change` made to every floating tensor, those in lists too."""

    def of(each):
        if isinstance(each, list):
            return [of(inner) for inner in each]
        return change(each) if isinstance(each, torch.Tensor) and each.is_floating_point() else each

    return {name: of(each) for name, each in arguments.items()}


def found(call, **changes):
    """What a call returns, as a tuple of tensors."""
    answer = call.function(**call.arguments | changes)
    return (answer,) if isinstance(answer, torch.Tensor) else tuple(answer)


calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@calls
def test_every_implementation_gives_one_answer(call):
    truth = found(call, implementation="oracle")
    for implementation in (None, "torch", "triton"):
        for ours, wanted in zip(found(call, implementation=implementation), truth, strict=True):
            assert ours.dtype == wanted.dtype
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


@calls
def test_an_unknown_implementation_is_refused(call):
    with pytest.raises(ValueError, match="implementation must be 'oracle', 'torch', 'triton' or None; it is 'fast'"):
        found(call, implementation="fast")


@calls
@pytest.mark.parametrize("implementation", [None, "oracle", "torch", "triton"])
def test_a_tensor_on_another_device_is_refused(call, implementation):
    with pytest.raises(ValueError, match=f"{call.other}.* must share a device; got .*meta"):
        found(call, implementation=implementation, **{call.other: call.arguments[call.other].to("meta")})


@calls
@pytest.mark.parametrize("implementation", [None, "triton"])
def test_tensors_of_two_dtypes_are_refused(call, implementation):
    name = "query" if "query" in call.arguments else "key"
    with pytest.raises(ValueError, match="must share a floating dtype; got"):
        found(call, implementation=implementation, **{name: call.arguments[name].half()})


@calls
def test_the_kernels_refuse_float64_and_the_plain_form_takes_it(call):
    exact = changed(call.arguments, torch.Tensor.double)
    with pytest.raises(ValueError, match="take float32, float16 or bfloat16; got torch.float64: use"):
        found(call, **exact, implementation="triton")
    for ours, wanted in zip(found(call, **exact), found(call, **exact, implementation="oracle"), strict=True):
        assert ours.dtype in (torch.float64, torch.int32)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)


@calls
def test_the_kernels_refuse_sizes_that_they_lack_and_a_call_left_open_falls_back(call):
    odd = changed(call.arguments, lambda each: each[..., :12] if each.ndim == 4 and each.shape[3] > 12 else each)
    with pytest.raises(ValueError, match=rf"the kernels take {call.refusal}.* among .*; got 12.*: use"):
        found(call, **odd, implementation="triton")
    for ours, wanted in zip(found(call, **odd), found(call, **odd, implementation="torch"), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


@calls
@pytest.mark.parametrize("scale", [math.nan, math.inf, torch.ones(())])
def test_a_scale_is_a_finite_number(call, scale):
    if not call.scaled:
        pytest.skip("it has no scale")
    with pytest.raises(ValueError, match="scale must be a finite number; it is"):
        found(call, scale=scale)


@calls
def test_a_tensor_without_its_batch_is_refused(call):
    for name, each in call.arguments.items():
        if isinstance(each, torch.Tensor):
            with pytest.raises(ValueError, match=rf"{name} must be [\[(].*; its shape is "):
                found(call, **{name: each[0]})


@calls
def test_kernels_take_bfloat16(call):
    """Interpreted, they compute it in float32: the interpreter's own is wrong.

    Compiled, they round the scores, the weights and the states between two products as well: with the output four
    roundings of half an eps, 2 ** -8, of the largest number.
    """
    half = changed(call.arguments, torch.Tensor.bfloat16)
    for ours, plain in zip(*(found(call, **half, implementation=name) for name in ("triton", "torch")), strict=True):
        assert ours.dtype == plain.dtype
        atol = 4 * 2**-8 * plain.float().abs().max().item() if DEVICE == "cuda" else 2**-8
        torch.testing.assert_close(ours, plain, rtol=2**-7, atol=atol)


@calls
def test_kernels_refuse_a_forward_mode_derivative_and_plain_forms_take_it(call):
    name = next(name for name in ("value", "dense_value", "key", "highest") if name in call.arguments)
    given = call.arguments[name]

    def of(implementation):
        return lambda given: [
            each for each in found(call, **{name: given}, implementation=implementation) if each.is_floating_point()
        ]

    with pytest.raises(ValueError, match="the kernels have no forward-mode derivative: use implementation='torch'"):
        torch.func.jvp(of("triton"), (given,), (given,))
    for implementation in (None, "torch", "oracle"):
        outputs, tangents = torch.func.jvp(of(implementation), (given,), (given,))
        for output, tangent, twice in zip(outputs, tangents, of(implementation)(2 * given), strict=True):
            there = output.isfinite()  # all calls are linear in this argument, but for its sign
            torch.testing.assert_close(tangent[there], (twice - output)[there], rtol=1e-4, atol=1e-5)


CARRIED = {name: call for name, call in CALLS.items() if {"decay", "log_gate"} & set(call.arguments)}
carried = pytest.mark.parametrize("call", CARRIED.values(), ids=CARRIED)


@carried
@pytest.mark.parametrize("implementation", [None, "oracle", "torch", "triton"])
def test_a_state_has_one_shape_is_float32_or_float64_and_lies_with_the_inputs(call, implementation):
    state = drawn(2, 4, 32, 32)
    with pytest.raises(ValueError, match="query, state must share a device; got .*meta"):
        found(call, implementation=implementation, state=state.to("meta"))
    for wrong in (state[:, :1], state.half(), state.bfloat16(), state.int()):
        with pytest.raises(ValueError, match=r"state must be \(2, 4, 32, 32\) in float32 or float64.*; it is"):
            found(call, implementation=implementation, state=wrong)
    narrow, wide = (found(call, implementation=implementation, state=each) for each in (state, state.double()))
    for ours, wanted in zip(wide, narrow, strict=True):
        assert ours.dtype == wanted.dtype == torch.float32
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)


@carried
def test_a_chunk_size_is_refused_with_the_kernels_and_a_call_left_open_takes_the_plain_form(call):
    with pytest.raises(ValueError, match="the kernels take their chunk size from a table; chunk_size is 16: use"):
        found(call, implementation="triton", chunk_size=16)
    for ours, wanted in zip(found(call, chunk_size=16), found(call, implementation="oracle"), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)
