"""Rectified sparse attention at the edges: what may not reach an output, ties, precisions, derivatives."""

import math

import pytest
import torch
from support.block_inputs import DEVICE, interpreted, lists_of, tensors

from effattn_core.rectified import (
    Choice,
    block_attention,
    block_bounds,
    block_means,
    bound_scores,
    bound_scores_oracle,
    choose_blocks,
    dense_pass,
    mean_scores,
    oracle,
    pooled,
)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
@pytest.mark.parametrize("entry", [math.inf, -math.inf, math.nan, 3e38])
@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_in_no_chosen_block_does_not_reach_the_output(kind, entry, implementation):
    """Also row 0, which stands in for an entry of -1 where rows are gathered, and the rows past the end."""
    tensors_ = dict(zip(("query", "key", "value"), tensors(70, torch.float32), strict=True))
    blocks = torch.tensor([4, 2, -1]).expand(2, 2, -1).to(DEVICE)
    call = dict(blocks=blocks, block_size=16, implementation=implementation)
    before = block_attention(**tensors_, **call)
    spoiled = tensors_[kind].clone()
    spoiled[:, :, :32], spoiled[:, :, 48:64] = entry, entry
    for a, b in zip(block_attention(**tensors_ | {kind: spoiled}, **call), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    spoiled[:, :, 40] = entry  # seen: it must not be lost either
    after = block_attention(**tensors_ | {kind: spoiled}, **call)
    assert not torch.allclose(after.output, before.output)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
@pytest.mark.parametrize("entry", [math.inf, -math.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_infinite_key_bounds_its_block_alike_in_all_forms(entry, implementation):
    query, key, _ = tensors(40, torch.float32)
    key[:, :, 20, 3] = entry
    chooser, bounds = pooled(query, 2), block_bounds(key, 16)
    found = bound_scores(query, *bounds, implementation=implementation)
    assert (found[..., [0, 2]].isfinite()).all() and not found.isnan().any()
    assert torch.equal(found[..., 1] == math.inf, chooser[..., 3] * entry > 0)


def test_of_equal_scores_the_newer_block_is_taken_and_nan_hides_no_block():
    scores = torch.tensor([3.0, 1, 1, 1, 1, 0, -9]).expand(2, 3, -1)
    for count, wanted in ((2, [0, 6]), (3, [0, 4, 6]), (4, [0, 3, 4, 6]), (7, list(range(7)))):
        assert (choose_blocks(scores, Choice(least=count)) == torch.tensor(wanted)).all(), count
    odd = torch.tensor([math.nan, 1, math.inf, -math.inf, math.nan, 5, -9])
    for count, wanted in ((1, [6]), (2, [4, 6]), (3, [2, 4, 6]), (4, [0, 2, 4, 6]), (5, [0, 2, 4, 5, 6])):
        assert choose_blocks(odd[None, None], Choice(least=count)).tolist() == [[wanted]], count
    compiled = torch.compile(choose_blocks, backend="aot_eager", fullgraph=True)
    for each in (scores, odd[None, None], torch.randn(2, 3, 50)):
        assert torch.equal(compiled(each, Choice(least=4)), choose_blocks(each, Choice(least=4)))


def test_the_definition_is_computed_in_float64_and_answers_in_the_inputs_dtype():
    query, key, value = tensors(100, torch.float16)
    blocks, exact = lists_of(100, 16, 2, 3), [each.double() for each in (query, key, value)]
    found = block_attention(query, key, value, blocks, block_size=16, implementation="oracle")
    truth = oracle(*exact, blocks, block_size=16, scale=32**-0.5)
    assert (found.output.dtype, found.log_sum_exp.dtype) == (torch.float16, torch.float32)
    assert torch.equal(found.output, truth.output.half()) and torch.equal(found.log_sum_exp, truth.log_sum_exp.float())
    scores = bound_scores(query, *block_bounds(key, 16), implementation="oracle")
    assert torch.equal(scores, bound_scores_oracle(exact[0], *block_bounds(exact[1], 16), scale=32**-0.5).float())


def test_half_precision_neither_overflows_in_means_nor_in_scores():
    key, query = torch.full((1, 2, 32, 32), 6e4).half(), torch.full((1, 4, 1, 32), 6e4).half()
    assert torch.equal(block_means(key, 16), key[:, :, :2])
    for scores in (mean_scores(query, block_means(key, 16)), bound_scores(query, *block_bounds(key, 16)),
                   bound_scores(query, *block_bounds(key, 16), implementation="triton")):  # fmt: skip
        torch.testing.assert_close(scores, torch.full((1, 2, 2), 32**0.5 * 6e4**2), rtol=1e-3, atol=0)


@interpreted
def test_interpreted_kernels_compute_bfloat16_in_float32():
    query, key, value = tensors(70, torch.bfloat16)
    bounds, blocks = block_bounds(key, 16), lists_of(70, 16, 2, 3, padding=1)
    newest = tensors(70, torch.bfloat16, tokens=5)[0]
    for call in (
        lambda name: block_attention(query, key, value, blocks, block_size=16, implementation=name).output,
        lambda name: bound_scores(query, *bounds, implementation=name).bfloat16(),
        lambda name: dense_pass(newest, key, value, implementation=name),
    ):
        ours, plain = call("triton"), call("torch")
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours, plain, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("implementation", [None, "oracle", "torch"])
def test_derivatives_of_the_plain_forms_are_right(implementation):
    """Forward and backward, also where the list has entries of -1."""
    inputs = [each[:1].requires_grad_() for each in tensors(10, group=2, head_dim=2)]
    blocks = lists_of(10, 4, 2, 2, padding=1)[:1]

    def both(query, key, value):
        return tuple(block_attention(query, key, value, blocks, block_size=4, implementation=implementation))

    def scores(query, key):
        return bound_scores(query, *block_bounds(key, 4), implementation=implementation)

    assert torch.autograd.gradcheck(both, inputs, check_forward_ad=True)
    assert torch.autograd.gradcheck(scores, inputs[:2], check_forward_ad=True)


def test_the_kernels_refuse_derivatives_in_a_sentence():
    query, key, value = tensors(40, torch.float32)
    blocks = lists_of(40, 16, 2, 2)
    call = dict(block_size=16, implementation="triton")
    with pytest.raises(ValueError, match="no forward-mode derivative"):
        torch.func.jvp(lambda value: block_attention(query, key, value, blocks, **call).output, (value,), (value,))
    with pytest.raises(RuntimeError, match="no autograd formula"):
        block_attention(query.requires_grad_(), key, value, blocks, **call).output.sum().backward()
