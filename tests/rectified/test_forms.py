"""Rectified sparse attention: identities, kernels within twice what plain PyTorch loses, and exact traffic."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.block_inputs import DEVICE, HALF, far, interpreted, lists_of, tensors
from support.placed import placed, times_lost

from effattn_core import bill, costs
from effattn_core.attention import attention, attention_part
from effattn_core.attention import oracle as attention_oracle
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
from effattn_core.rectified import costs as costs_rectified
from kernels.rectified import launch_decode, launch_rectify, launch_scores
from kernels.rectified.configurations import choose
from kernels.rectified.operators import block_attention_forward, block_scores_forward, rectify_forward
from kernels.trace import trace

# time, block_size, heads of a group, blocks read, entries of -1
CASES = [
    (100, 16, 4, 3, 0), (7, 16, 6, 1, 0), (16, 16, 8, 1, 0), (257, 16, 6, 9, 2), (64, 8, 1, 5, 3), (130, 32, 8, 5, 0),
    (9, 1, 6, 4, 0), (300, 4, 1, 40, 1), (65, 64, 4, 2, 7),
]  # fmt: skip
IMPLEMENTATIONS = ("torch", "triton")


@pytest.mark.proves("oracle", "rectified_decode_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_block_attention_loses_at_most_twice_what_plain_pytorch_loses(implementation, case, dtype, nan_filled):
    time, block_size, group, count, padding = case
    odd = CASES.index(case) % 3 == 1  # every third case: strided as projections leave it, and a list a query head
    inputs = tensors(time, dtype, group=group, strided=odd)
    exact = [each.double() for each in inputs]
    for lists in (2, 2 * group) if odd else (2,):
        blocks = lists_of(time, block_size, lists, count, padding=padding)
        settings_ = dict(block_size=block_size)
        truth = block_attention(*exact, blocks, implementation="oracle", **settings_)
        plain = oracle(*inputs, blocks, scale=32**-0.5, **settings_)
        ours = block_attention(*inputs, blocks, implementation=implementation, **settings_)
        for what, error, lost in zip(("output", "log-sum-exp"), far(ours, truth), far(plain, truth), strict=True):
            # Of so few keys plain PyTorch may lose next to nothing: then four roundings are allowed.
            largest = max(1.0, truth[what != "output"].abs().max().item())
            budget = max(
                times_lost(dtype) * lost, 4 * largest * torch.finfo(torch.float32 if what != "output" else dtype).eps
            )
            print(f"{what}: error {error:.2e}, budget {budget:.2e}")
            assert error <= budget, what


@pytest.mark.proves("oracle", "rectified_scores_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize(("time", "block_size", "group"), [(100, 16, 4), (7, 16, 6), (16, 16, 8), (1100, 16, 1)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("shared", [True, False])
def test_scores_lose_at_most_twice_what_plain_pytorch_loses(
    implementation, time, block_size, group, dtype, shared, nan_filled
):
    query, key, _ = tensors(time, dtype, group=group)
    bounds = block_bounds(key, block_size)
    exact = [each.double() for each in (query, *bounds)]
    truth = bound_scores(*exact, shared=shared, implementation="oracle")
    plain = bound_scores_oracle(query, *bounds, scale=32**-0.5, shared=shared)
    ours = bound_scores(query, *bounds, shared=shared, implementation=implementation)
    assert ours.shape == truth.shape == (2, 2 if shared else 2 * group, -(-time // block_size))
    error, lost = (ours.double() - truth).abs().max().item(), (plain.double() - truth).abs().max().item()
    floor = 4 * truth.abs().max().item() * torch.finfo(torch.float32).eps
    print(f"error {error:.2e}, budget {max(2 * lost, floor):.2e}")
    assert error <= max(2 * lost, floor)


@pytest.mark.proves("oracle", "rectified_pass_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize(
    ("time", "tokens", "group", "splits"),
    [(130, 16, 4, None), (64, 12, 6, 3), (9, 9, 1, 2), (130, 5, 8, 9), (33, 1, 6, None), (100, 20, 8, 2)],
)
def test_the_rectification_pass_loses_at_most_twice_what_plain_attention_loses(
    time, tokens, group, splits, dtype, nan_filled
):
    query, key, value = inputs = [each[:1] for each in tensors(time, dtype, group=group, tokens=tokens)]
    truth = attention_part(*(each.double() for each in inputs), implementation="oracle")
    plain = attention_oracle(*inputs, scale=32**-0.5)
    ours = launch_rectify(query, key, value, query.shape[-1] ** -0.5, splits)
    for what, error, lost in zip(("output", "log-sum-exp"), far(ours, truth), far(plain, truth), strict=True):
        floor = 4 * torch.finfo(torch.float32 if what != "output" else dtype).eps * 3
        print(f"{what}: error {error:.2e}, budget {max(2 * lost, floor):.2e}")
        assert error <= max(2 * lost, floor), what


def test_the_pass_of_a_cpu_is_attention_itself_and_the_kernels_form_can_be_asked_for():
    inputs = tensors(60, torch.float32, tokens=8)
    assert torch.equal(dense_pass(*inputs), attention(*inputs))
    torch.testing.assert_close(dense_pass(*inputs, implementation="triton"), attention(*inputs))


@given(st.integers(1, 200), st.integers(1, 40), st.sampled_from([1, 3, 6]), st.booleans())
@settings(max_examples=40)
def test_with_every_block_selected_it_is_dense_attention_in_any_order(time, block_size, group, shared):
    query, key, value = tensors(time, group=group, head_dim=8)
    blocks = -(-time // block_size)
    everything = lists_of(time, block_size, 2 if shared else 2 * group, blocks, seed=time)
    whole = attention_part(query, key, value, implementation="oracle")
    for implementation in ("oracle", "torch"):
        ours = block_attention(query, key, value, everything, block_size=block_size, implementation=implementation)
        for a, b in zip(ours, whole, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
def test_the_order_of_the_list_and_padding_do_not_matter(implementation):
    inputs, blocks = tensors(257, torch.float32, group=6), lists_of(257, 16, 2, 9)
    call = dict(block_size=16, implementation=implementation)
    first = block_attention(*inputs, blocks, **call)
    holes = torch.full_like(blocks[..., :4], -1)
    for other in (blocks.flip(-1), torch.cat([holes, blocks.roll(3, -1), holes], -1)):
        for a, b in zip(block_attention(*inputs, other, **call), first, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("splits", [1, 3, 8])
def test_empty_splits_are_the_unit_of_the_merge_and_a_list_of_nothing_gives_nothing(splits, nan_filled):
    query, key, value = tensors(257, torch.float32, group=6)
    one = torch.full((2, 2, 8), -1, device=DEVICE)
    one[0, :, 5] = 3  # in the second batch item no block at all
    truth = block_attention(query.double(), key.double(), value.double(), one, block_size=16, implementation="oracle")
    for output, log_sum_exp in (
        truth,
        block_attention(query, key, value, one, block_size=16, implementation="torch"),
        launch_decode(query, key, value, one, 16, 32**-0.5, splits=splits),
    ):
        torch.testing.assert_close(output.double(), truth.output, rtol=0, atol=2e-6)
        torch.testing.assert_close(log_sum_exp.double(), truth.log_sum_exp, rtol=0, atol=2e-6)
        assert (output[1] == 0).all() and (log_sum_exp[1] == -math.inf).all()


@given(st.integers(1, 150), st.integers(1, 33))
@settings(max_examples=60)
def test_the_bound_is_above_every_score_of_its_block_and_equal_at_block_size_one(time, block_size):
    query, key, _ = tensors(time, head_dim=8)
    chooser = pooled(query, 2)
    score = 0.3 * torch.einsum("bld,blnd->bln", chooser, key)
    bound = bound_scores(query, *block_bounds(key, block_size), scale=0.3)
    assert (bound.repeat_interleave(block_size, 2)[..., :time] >= score - 1e-12).all()
    torch.testing.assert_close(bound_scores(query, *block_bounds(key, 1), scale=0.3), score, rtol=0, atol=1e-12)
    # A head's own list is bounded by its own query.
    own = 0.3 * torch.einsum("bhd,bhnd->bhn", query[:, :, 0], key.repeat_interleave(4, 1))
    bound = bound_scores(query, *block_bounds(key, block_size), scale=0.3, shared=False)
    assert (bound.repeat_interleave(block_size, 2)[..., :time] >= own - 1e-12).all()


def test_bounds_and_means_of_a_ragged_last_block_know_only_its_own_keys():
    key = torch.randn(1, 2, 37, 4, dtype=torch.float64) - 5  # a zero of padding would show in the bound and the mean
    lowest, highest = block_bounds(key, 16)
    torch.testing.assert_close(highest[:, :, 2], key[:, :, 32:].amax(2))
    torch.testing.assert_close(lowest[:, :, 2], key[:, :, 32:].amin(2))
    torch.testing.assert_close(block_means(key, 16)[:, :, 2], key[:, :, 32:].mean(2))
    score = mean_scores(torch.ones(1, 4, 1, 4, dtype=torch.float64), block_means(key, 16), scale=1.0)
    torch.testing.assert_close(score[:, :, 0], key[:, :, :16].mean(2).sum(-1))
    assert block_bounds(key[:, :, :0], 16)[0].shape == (1, 2, 0, 4)


def test_the_choice_counts_blocks_and_keeps_the_newest():
    assert [Choice(least=1).count(blocks) for blocks in (1, 10, 11, 30, 300)] == [1, 1, 2, 3, 30]
    assert [Choice().count(blocks) for blocks in (3, 16, 170)] == [3, 16, 17]
    scores = torch.tensor([[[5.0, 1, 4, 2, 0, 3, -9]]])
    assert choose_blocks(scores, Choice(least=3)).tolist() == [[[0, 2, 6]]]
    assert choose_blocks(scores, Choice(least=1, local=2)).tolist() == [[[5, 6]]]
    assert choose_blocks(scores, Choice()).tolist() == [[list(range(7))]]
    assert scores[0, 0, 6] == -9  # the caller's scores are left alone
    with pytest.raises(ValueError, match="block_size must be a whole number of at least 1; it is 0"):
        Choice(block_size=0)
    with pytest.raises(ValueError, match=r"in \[0, 1\]; it is 1.5"):
        Choice(active=1.5)
    with pytest.raises(ValueError, match="gate must be one of .* 'sum'"):
        Choice(gate="sum")


def test_heads_that_want_opposite_things_cancel_in_the_pooled_query():
    """Why Quest lets each head choose, and what ReSA gives up for one list: the page's exercise."""
    key = torch.zeros(1, 1, 8, 2, dtype=torch.float64)
    key[0, 0, 0], key[0, 0, 5] = torch.tensor([9.0, 0]), torch.tensor([0, 3.0])
    query = torch.tensor([[[[1.0, 0.6]], [[-1.0, 0.6]]]], dtype=torch.float64)
    bounds = block_bounds(key, 1)
    assert bound_scores(query, *bounds).argmax().item() == 5
    assert bound_scores(query, *bounds, shared=False).argmax(-1).tolist() == [[0, 5]]


@pytest.mark.proves("traffic", "rectified_*_kernel")
@interpreted
@pytest.mark.parametrize(("time", "block_size", "group", "count"), [(256, 16, 4, 5), (256, 32, 8, 3), (128, 16, 1, 8)])
def test_a_step_moves_what_the_formula_says_and_the_leading_part_is_exact(time, block_size, group, count):
    query, key, value = tensors(time, torch.float32, group=group)
    lowest, highest = block_bounds(key, block_size)
    blocks = lists_of(time, block_size, 2, count).sort(-1).values.int()
    splits = 3
    with trace(lowest=lowest, highest=highest) as scoring:
        launch_scores(query, lowest, highest, 1.0, True)
    with trace(key=key, value=value, blocks=blocks) as reading:
        launch_decode(query, key, value, blocks, block_size, 1.0, splits=splits)
    period = 8
    newest = tensors(time, torch.float32, group=group, tokens=period)[0]
    with trace(key=key, value=value) as rectifying:
        launch_rectify(newest, key, value, 1.0, splits=2)
    tiles = -(-period * group // choose("rectify", torch.float32, 32)[0].rows)
    whole = key.nbytes + value.nbytes
    share = costs_rectified.share(block_size, count / (time // block_size), period)
    assert scoring.loaded["lowest"] + scoring.loaded["highest"] == whole // block_size == share.descriptors * whole
    assert reading.loaded["key"] + reading.loaded["value"] == share.blocks * whole
    assert reading.loaded["blocks"] == blocks.nbytes  # each entry of the list is read once
    assert (rectifying.loaded["key"] + rectifying.loaded["value"]) / period == tiles * share.rectification * whole
    traced = scoring.loaded_bytes + reading.loaded_bytes, scoring.stored_bytes + reading.stored_bytes
    formula = costs_rectified.step_traffic(2, group, 2, time, 32, count, block_size=block_size, splits=splits)
    assert traced == (formula.loaded, formula.stored) and reading.flops == formula.flops
    pass_ = costs_rectified.rectify_traffic(2, group, 2, time, 32, period, splits=2)
    assert (rectifying.loaded_bytes, rectifying.stored_bytes) == (pass_.loaded, pass_.stored)
    half = costs_rectified.step_traffic(2, group, 2, time, 32, count, block_size=block_size, splits=splits, element=2)
    assert half.loaded < formula.loaded  # the bytes of half precision are known where kernels are interpreted, too


def test_costs_follow_from_their_formulas():
    share = costs_rectified.share(16, 0.1, 32)
    assert share.total == 1 / 16 + 0.1 + 1 / 32 and round(1 / share.total, 2) == 5.16
    assert round(1 / costs_rectified.share(16, 0.1, 64).total, 2) == 5.61
    assert round(1 / costs_rectified.share(32, 0.1, 32).total, 2) == 6.15
    assert costs_rectified.share(16, 0.1, 0).total == 1 / 16 + 0.1
    moved = {new.key: (old.value, new.value) for old, new in bill.moved("rectified")}
    cache = costs.cache_bytes(costs.LLAMA_8B, 131072)
    assert set(moved) == {"cache", "decode"}
    assert moved["decode"][0] - moved["decode"][1] == pytest.approx(cache * (1 - share.total), abs=1)
    assert moved["cache"][1] == pytest.approx(cache * (1 + 1 / 16))
    with pytest.raises(ValueError, match="at least 1; it is 0"):
        costs_rectified.share(0, 0.1, 32)
    with pytest.raises(ValueError, match=r"in \[0, 1\]; it is 2"):
        costs_rectified.share(16, 2, 32)


@interpreted
def test_operators_pass_the_library_s_own_checks_and_compile_as_one_graph():
    query, key, value = tensors(70, torch.float32)
    bounds, blocks = block_bounds(key, 16), lists_of(70, 16, 2, 3)
    torch.library.opcheck(block_scores_forward, (query, *bounds, 0.2, True))
    torch.library.opcheck(block_attention_forward, (query, key, value, blocks, 16, 0.2))
    torch.library.opcheck(rectify_forward, (query, key, value, 0.2))


@pytest.mark.parametrize("implementation", [None, "triton"])
def test_a_compiled_step_is_one_graph(implementation):
    query, key, value = tensors(70, torch.float32)

    def step(query, key, value):
        scores = bound_scores(query, *block_bounds(key, 16), implementation=implementation)
        blocks = choose_blocks(scores, Choice(least=3))
        return block_attention(query, key, value, blocks, block_size=16, implementation=implementation)

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(query, key, value), step(query, key, value), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
def test_a_batch_of_none_and_a_list_of_no_length(implementation):
    query, key, value = tensors(40, torch.float32)
    none = block_attention(query[:0], key[:0], value[:0], torch.zeros(0, 2, 3, dtype=torch.int64, device=DEVICE),
                           block_size=16, implementation=implementation)  # fmt: skip
    assert none.output.shape == (0, 8, 1, 32) and none.log_sum_exp.shape == (0, 8, 1)
    empty = block_attention(query, key, value, torch.zeros(2, 2, 0, dtype=torch.int64, device=DEVICE), block_size=16,
                            implementation=implementation)  # fmt: skip
    assert (empty.output == 0).all() and (empty.log_sum_exp == -math.inf).all()
    scores = bound_scores(query[:0], *block_bounds(key[:0], 16), implementation=implementation)
    assert scores.shape == (0, 2, 3)


QUERY, KEY = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 20, 8)
BLOCKS = torch.tensor([0, 1]).expand(1, 2, -1)
BAD = {
    r"query must be .* one token; its shape is \(1, 4, 2, 8\)": dict(query=torch.randn(1, 4, 2, 8)),
    "shapes must agree; got": dict(key=KEY[..., :4]),
    "key heads must divide query heads; got 2 key heads, 3": dict(query=QUERY[:, :3]),
    r"query must be .* its shape is \(4, 1, 8\)": dict(query=QUERY[0]),
    "key and value must agree": dict(value=KEY[:, :, :5]),
    "query, key, value must share a floating dtype": dict(value=KEY.half()),
    "query, key, value must share a device": dict(key=KEY.to("meta"), value=KEY.to("meta")),
    "query, blocks must share a device": dict(blocks=BLOCKS.to("meta")),
    "scale must be a finite number; it is nan": dict(scale=math.nan),
    r"blocks must lie in \[0, 2\), or be -1 for none; they hold 99": dict(blocks=98 + BLOCKS),
    r"blocks must lie in \[0, 2\), or be -1 for none; they hold -2": dict(blocks=BLOCKS - 2),
    "blocks must each be listed once; 0 is listed twice": dict(blocks=torch.zeros(1, 2, 2, dtype=int)),
    "head_dim must be at least 1": dict(query=QUERY[..., :0], key=KEY[..., :0]),
    "block_size must be a whole number of at least 1; it is 16.0": dict(block_size=16.0),
    r"blocks must be \[1, 2 or 4, count\]; its shape is \(1, 3, 2\)": dict(blocks=torch.zeros(1, 3, 2, dtype=int)),
    "blocks must be signed integers": dict(blocks=BLOCKS.float()),
    "block_size must be a whole number of at least 1; it is 0": dict(block_size=0),
    "implementation must be": dict(implementation="cuda"),
    "head_dim and value_dim among .* got 8 and 8": dict(implementation="triton"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_says_what_was_given_and_what_is_wanted(message):
    with pytest.raises(ValueError, match=message):
        block_attention(**placed(dict(query=QUERY, key=KEY, value=KEY, blocks=BLOCKS, block_size=16) | BAD[message]))


def test_other_refusals_are_sentences_too():
    low, high = block_bounds(KEY, 16)
    for message, changes in {
        "lowest and highest must have one shape": dict(highest=high[:, :, :1]),
        "share a floating dtype": dict(highest=high.half()),
        "share a device": dict(lowest=low.to("meta"), highest=high.to("meta")),
        "finite number; it is inf": dict(scale=math.inf),
        r"lowest must be \[.*; its shape is \(2, 2, 8\)": dict(lowest=low[0]),
        "implementation must be": dict(implementation="fast"),
        r"head_dim among .* got 8: use": dict(implementation="triton"),
    }.items():
        with pytest.raises(ValueError, match=message):
            bound_scores(**placed(dict(query=QUERY, lowest=low, highest=high) | changes))
    wide = [torch.randn(1, heads, time, 32, device=DEVICE) for heads, time in ((4, 1), (2, 20), (2, 20))]
    with pytest.raises(ValueError, match="power of two up to 128; it is 3"):
        block_attention(*wide, BLOCKS.to(DEVICE), block_size=3, implementation="triton")
    with pytest.raises(ValueError, match="share a device"):
        dense_pass(wide[0], wide[1].to("meta"), wide[2], implementation="triton")
    with pytest.raises(ValueError, match="head_dim and value_dim among .* got 8 and 8"):
        dense_pass(QUERY.to(DEVICE), KEY.to(DEVICE), KEY.to(DEVICE), implementation="triton")
    with pytest.raises(ValueError, match=r"key must be \[.*; its shape is \(2, 20, 8\)"):
        block_bounds(KEY[0], 16)
