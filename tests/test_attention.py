"""Attention: every form against the float64 oracle, within twice what PyTorch's own SDPA loses."""

import itertools
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core.attention import KeyValueCache, Part, attention, merge, online_softmax, oracle, tiled, visible

CASES = [
    dict(time=1), dict(time=63), dict(time=65), dict(time=257), dict(time=65, key_heads=1), dict(time=65, key_heads=2),
    dict(time=257, window=70), dict(time=257, window=70, sinks=4),
    dict(time=40, key_time=257), dict(time=63, causal=False),
]  # fmt: skip


def tensors(dtype, time, *, key_time=None, heads=4, key_heads=4, head_dim=32, strided=False):
    generator = torch.Generator().manual_seed(time)
    shapes = [(heads, time), (key_heads, key_time or time), (key_heads, key_time or time)]
    made = [torch.randn(2, count, length, head_dim, generator=generator) for count, length in shapes]
    if strided:  # [batch, time, heads, head_dim] in memory, as projections leave it
        made = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in made]
    return [tensor.to(dtype).requires_grad_() for tensor in made]


def sdpa(query, key, value, *, causal, window, sinks):
    offset = key.shape[2] - query.shape[2]
    rows, columns = torch.arange(query.shape[2]) + offset, torch.arange(key.shape[2])
    seen = visible(rows, columns, causal=causal, window=window, sinks=sinks)
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=True)


def errors(function, inputs, truth):
    """Largest distance from the float64 truth: of the output, then of each gradient."""
    output = function(*inputs)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(9)).to(output.dtype)
    results = [output, *torch.autograd.grad(output, inputs, cotangent)]
    if truth is None:
        return results
    return [(a.double() - b).abs().max().item() for a, b in zip(results, truth, strict=True)]


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tiled_output_and_gradients_lose_at_most_twice_what_sdpa_loses(case, dtype, strided):
    masks = {name: case.get(name, default) for name, default in (("causal", True), ("window", None), ("sinks", 0))}
    inputs = tensors(dtype, strided=strided, **{k: v for k, v in case.items() if k not in masks})
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    truth = errors(lambda *qkv: attention(*qkv, implementation="oracle", **masks), exact, None)
    ours = errors(lambda *qkv: tiled(*qkv, **masks, scale=32**-0.5, block=64).output, inputs, truth)
    budget = errors(lambda *qkv: sdpa(*qkv, **masks), inputs, truth)
    for name, error, allowed in zip(("output", "d query", "d key", "d value"), ours, budget, strict=True):
        floor = torch.finfo(dtype).eps  # SDPA can be exact (one key); one rounding is then still allowed
        print(f"{name}: error {error:.2e}, budget {2 * allowed:.2e}")
        assert error <= max(2 * allowed, floor), name


@given(st.integers(1, 90), st.integers(1, 40), st.none() | st.integers(1, 50), st.integers(0, 5))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_tiled_equals_the_oracle_for_any_length_block_window_and_sinks(time, block, window, sinks):
    inputs = tensors(torch.float64, time, head_dim=8, key_heads=2)
    masks = dict(causal=True, window=window, sinks=sinks, scale=0.3)
    for ours, truth in zip(tiled(*inputs, block=block, **masks), oracle(*inputs, **masks), strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)


def test_the_future_changes_nothing_past():
    query, key, value = (tensor.detach() for tensor in tensors(torch.float64, 65))
    before = attention(query, key, value)
    key[:, :, 40:], value[:, :, 40:] = 7.0, -7.0
    after = attention(query, key, value)
    assert torch.equal(before[:, :, :40], after[:, :, :40])
    assert not torch.allclose(before[:, :, 40:], after[:, :, 40:])


def test_online_softmax_is_exact_after_every_key():
    scores, value = torch.randn(9, dtype=torch.float64) * 30, torch.randn(9, 3, dtype=torch.float64)
    for seen, (_, total, accumulator) in enumerate(online_softmax(scores, value), start=1):
        torch.testing.assert_close(accumulator / total, scores[:seen].softmax(0) @ value[:seen])


@given(st.lists(st.integers(0, 30), max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_merging_any_split_in_any_order_and_grouping_is_whole_attention(cuts, shuffle: random.Random):
    query, key, value = tensors(torch.float64, 30)
    whole = oracle(query, key, value, causal=False, scale=0.2)
    edges = sorted({0, *cuts, 30})
    parts = [
        oracle(query, key[:, :, a:b], value[:, :, a:b], causal=False, scale=0.2) for a, b in itertools.pairwise(edges)
    ]
    parts.append(Part(torch.zeros_like(whole.output), torch.full_like(whole.log_sum_exp, -torch.inf)))
    shuffle.shuffle(parts)
    grouped = merge([parts[0], merge(parts[1:])])
    for ours, truth in zip(grouped, whole, strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)


def test_merging_only_empty_parts_gives_an_empty_part():
    empty = Part(torch.zeros(2, 3), torch.full((2,), -torch.inf))
    output, log_sum_exp = merge([empty, empty])
    assert torch.equal(output, empty.output) and torch.equal(log_sum_exp, empty.log_sum_exp)


def test_decoding_with_the_cache_gives_the_whole_sequence():
    query, key, value = (tensor.detach() for tensor in tensors(torch.float64, 20, key_heads=2))
    cache = KeyValueCache(2, 2, 20, 32, dtype=torch.float64)
    steps = []
    for token in range(20):
        cache.append(key[:, :, token : token + 1], value[:, :, token : token + 1])
        steps.append(attention(query[:, :, token : token + 1], cache.key, cache.value, window=7, sinks=2))
    torch.testing.assert_close(torch.cat(steps, 2), attention(query, key, value, window=7, sinks=2))
    assert cache.nbytes == 2 * 2 * 2 * 20 * 32 * 8
    with pytest.raises(ValueError, match="holds 20 of 20 tokens; 1 more do not fit"):
        cache.append(key[:, :, :1], value[:, :, :1])


@pytest.mark.parametrize("shape", [(0, 4, 5, 32), (2, 4, 0, 32)])
def test_no_batch_or_no_query_gives_an_empty_output(shape):
    key = torch.randn(shape[0], 4, 5, 32)
    assert attention(torch.randn(shape), key, key).shape == shape


QUERY = torch.randn(1, 4, 6, 8)
BAD = {
    "query must be .* its shape is": dict(query=QUERY[0]),
    "key heads must divide": dict(key=QUERY[:, :3], value=QUERY[:, :3]),
    "share a floating dtype": dict(key=QUERY.half()),
    "share a device": dict(value=QUERY.to("meta")),
    "finite number; it is nan": dict(scale=float("nan")),
    "window must be at least 1": dict(window=0),
    "sinks must be": dict(sinks=-1),
    "shapes must agree": dict(key=QUERY[:, :, :5]),
    "implementation must be": dict(implementation="cuda"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        attention(**{"query": QUERY, "key": QUERY, "value": QUERY, **BAD[message]})
