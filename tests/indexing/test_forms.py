"""One shared index: identities, kernels within twice what plain PyTorch loses, exact traffic."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.index_inputs import DEVICE, HALF, asked, far, interpreted, rows_of, tensors
from support.placed import placed, times_lost

from effattn_core.attention import attention_part
from effattn_core.indexing import (
    choose_rows,
    gather_rows,
    hide_future,
    mask_of,
    oracle,
    row_attention,
    scores_oracle,
    select_rows,
)
from effattn_core.indexing import costs as prices
from kernels.indexing import launch_attention, launch_gather, launch_select
from kernels.indexing.configurations import capacity_of
from kernels.indexing.operators import index_attention, index_gather, index_select
from kernels.trace import trace

# time, heads of a group, rows read, entries of -1
CASES = [(100, 4, 33, 0), (7, 6, 7, 0), (64, 8, 64, 0), (257, 6, 70, 2), (90, 1, 5, 3), (9, 8, 4, 70)]


@pytest.mark.proves("oracle", "indexing_gather_kernel", "rectified_decode_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_row_attention_loses_at_most_twice_what_plain_pytorch_loses(implementation, case, dtype, nan_filled):
    time, group, count, padding = case
    odd = CASES.index(case) % 3 == 1
    inputs = tensors(time, dtype, group=group, strided=odd, value_dim=64 if odd else None, batch=1)
    rows = rows_of(time, count, padding=padding, batch=1)
    truth = row_attention(*(each.double() for each in inputs), rows, implementation="oracle")
    plain = oracle(*inputs, rows, scale=32**-0.5)
    near = gather_rows(inputs[1], inputs[2], rows, implementation=implementation)
    for given_, already in ((inputs[1:], False), (near, True)):
        ours = row_attention(inputs[0], *given_, rows, gathered_already=already, implementation=implementation)
        for what, error, lost in zip(("output", "log-sum-exp"), far(ours, truth), far(plain, truth), strict=True):
            # Of so few keys plain PyTorch may lose next to nothing: then four roundings are allowed.
            largest = max(1.0, truth[what != "output"].abs().max().item())
            budget = max(
                times_lost(dtype) * lost, 4 * largest * torch.finfo(torch.float32 if what != "output" else dtype).eps
            )
            print(f"{what}: error {error:.2e}, budget {budget:.2e}")
            assert error <= budget, what


# time, index heads, index_dim, top_k, splits
SCORED = [(150, 4, 16, 20, 2), (7, 6, 32, 9, None), (64, 1, 16, 64, 1), (33, 8, 64, 5, 3)]


@pytest.mark.proves("oracle", "indexing_select_kernel", "indexing_merge_kernel")
@pytest.mark.parametrize("dtype", [torch.float32, HALF], ids=str)
@pytest.mark.parametrize("case", SCORED, ids=str)
def test_the_running_top_k_is_as_good_as_scores_in_the_same_precision(case, dtype, nan_filled):
    time, heads, index_dim, top_k, splits = case
    query, key, weight = asked(time, dtype, heads=heads, index_dim=index_dim, strided=time == 33)
    true, plain = (scores_oracle(*(each.to(kind) for each in (query, key, weight)))[0, 0].double()
                   for kind in (torch.float64, dtype))  # fmt: skip
    rows, scores = launch_select(query, key, weight, top_k, 0, splits)
    rows, scores, there = rows[0].long(), scores[0].double(), min(top_k, time)
    assert (rows[there:] == -1).all() and (scores[there:] == -math.inf).all()
    assert (rows[1:there] > rows[: there - 1]).all()  # ascending, each once
    floor = 4 * true.abs().max().item() * torch.finfo(torch.float32).eps
    budget = max(2 * (plain - true).abs().max().item(), floor)
    error = (scores[:there] - true[rows[:there]]).abs().max().item()
    print(f"error {error:.2e}, budget {budget:.2e}")
    assert error <= budget
    # What was left out scores no more than what was taken, but for the errors of both.
    left = torch.ones(time, dtype=torch.bool, device=DEVICE)
    left[rows[:there]] = False
    assert not left.any() or true[left].max() <= true[rows[:there]].min() + 2 * budget


def test_ties_go_to_the_newer_row_and_the_newest_is_forced(nan_filled):
    query, key, weight = asked(70, torch.float32)
    key[:, :, 10:] = 0.0  # scores of exactly 0, and those of the first ten of either sign
    weight = -weight.abs()
    for implementation in ("torch", "triton"):
        call = dict(top_k=8, implementation=implementation)
        rows, _ = select_rows(query, key, weight, local=0, **call)
        first = [row for row in rows[0].tolist() if row < 10]
        assert rows[0].tolist()[len(first):] == list(range(70 - 8 + len(first), 70))  # fmt: skip
    key[:, :, -1] = 1e4 * query[:, :1, 0, :]  # the newest scores worst
    for implementation in ("torch", "triton"):
        rows, scores = select_rows(query, key, weight, top_k=8, implementation=implementation)
        assert rows[0, -1] == 69 and scores[0, -1] == math.inf
        without, _ = select_rows(query, key, weight, top_k=8, local=0, implementation=implementation)
        assert 69 not in without


@given(st.integers(1, 120), st.integers(1, 150), st.booleans())
@settings(max_examples=40)
def test_choosing_takes_the_best_and_everything_where_there_is_less(time, top_k, repeated):
    generator = torch.Generator().manual_seed(time)
    scores = torch.randn(2, 3, time + 2, generator=generator)
    scores = hide_future(scores.round() if repeated else scores)
    rows = choose_rows(scores, top_k)
    assert rows.shape == (2, 3, top_k)
    for seen, row, score in zip((time, time + 1, time + 2), rows[0], scores[0], strict=True):
        kept = row[row >= 0].tolist()
        assert len(kept) == min(top_k, seen) and kept == sorted(set(kept)) and kept[-1] == seen - 1
        assert row[len(kept) :].tolist() == [-1] * (top_k - len(kept))
        best = sorted(range(seen - 1), key=lambda j: (-score[j].item(), -j))[: len(kept) - 1]
        assert kept[:-1] == sorted(best)


@pytest.mark.parametrize("group", [1, 6, 8])
@given(st.integers(1, 90))
@settings(max_examples=15)
def test_everything_selected_is_dense_and_the_shared_gather_is_masked_dense(group, time):
    query, key, value = tensors(time, group=group, head_dim=8)
    whole = attention_part(query, key, value, implementation="oracle")
    every = rows_of(time, time, seed=time, padding=2)
    few = rows_of(time, max(1, time // 3), seed=time, padding=1)
    near = gather_rows(key, value, few)
    layers = torch.randn(3, *query.shape, dtype=torch.float64).to(DEVICE)
    for implementation in ("oracle", "torch"):
        for a, b in zip(row_attention(query, key, value, every, implementation=implementation), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        for layer in layers:  # queries of their own, one gather for all
            seen = mask_of(few[:, None], time)[:, None]
            scores = (layer @ key.repeat_interleave(group, 1).mT * 8**-0.5).masked_fill(~seen, -math.inf)
            masked = scores.softmax(-1) @ value.repeat_interleave(group, 1)
            ours = row_attention(layer, *near, few, gathered_already=True, implementation=implementation)
            torch.testing.assert_close(ours.output, masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
def test_the_order_of_the_list_and_padding_do_not_matter(implementation):
    inputs, rows = tensors(120, torch.float32, group=6), rows_of(120, 50)
    first = row_attention(*inputs, rows, implementation=implementation)
    holes = torch.full_like(rows[:, :4], -1)
    for other in (rows.flip(-1), torch.cat([holes, rows.roll(3, -1), holes], -1)):
        for a, b in zip(row_attention(*inputs, other, implementation=implementation), first, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("splits", [1, 3, 8])
@pytest.mark.parametrize("already", [False, True])
def test_empty_splits_are_the_unit_of_the_merge_and_a_list_of_nothing_gives_nothing(already, splits, nan_filled):
    query, key, value = tensors(90, torch.float32, group=6)
    one = torch.full((2, 200), -1, device=DEVICE)
    one[0, 130] = 3  # in the second batch item no row at all
    truth = row_attention(query.double(), key.double(), value.double(), one, implementation="oracle")
    given_ = launch_gather(key, value, one) if already else (key, value)
    for output, log_sum_exp in (
        truth,
        row_attention(query, *given_, one, gathered_already=already, implementation="torch"),
        launch_attention(query, *given_, one, already, 32**-0.5, splits=splits),
    ):
        torch.testing.assert_close(output.double(), truth.output, rtol=0, atol=2e-6)
        torch.testing.assert_close(log_sum_exp.double(), truth.log_sum_exp, rtol=0, atol=2e-6)
        assert (output[1] == 0).all() and (log_sum_exp[1] == -math.inf).all()


@pytest.mark.proves("traffic", "indexing_*_kernel")
@interpreted
@pytest.mark.parametrize(("group", "layers"), [(4, 3), (1, 2)])
def test_bytes_of_a_step_are_the_index_once_and_k_rows_a_layer_exactly(group, layers):
    time, top_k, splits = 128, 32, 2
    ask, index, weight = asked(time, torch.float32)
    query, key, value = tensors(time, torch.float32, group=group, batch=1)
    with trace(index=index) as choosing:
        rows, _ = launch_select(ask, index, weight, top_k, 1, splits=splits)
    with trace(key=key, value=value) as reading:
        for _ in range(layers):
            launch_attention(query, key, value, rows, False, 1.0, splits=2)
    step = prices.step(time, layers, 2, 32, top_k=top_k, element=4, index_dim=16, index_element=4, scale_bytes=0)
    assert choosing.loaded["index"] == step.index == time * 16 * 4
    assert reading.loaded["key"] + reading.loaded["value"] == step.rows == layers * top_k * 2 * 2 * 32 * 4
    with trace(key=key, value=value) as copying:
        near_key, near_value = launch_gather(key, value, rows)
    with trace(key=near_key, value=near_value) as near:
        for _ in range(layers):
            launch_attention(query, near_key, near_value, rows, True, 1.0, splits=2)
    once = prices.step(time, layers, 2, 32, top_k=top_k, element=4, gathered=True)
    total = sum(each.loaded["key"] + each.loaded["value"] for each in (copying, near))
    assert total == once.rows and copying.loaded["key"] == near_key.nbytes
    # And all that the launches move, lists and parts included.
    formula = prices.select_traffic(1, time, 16, 4, top_k, splits=splits)
    assert (choosing.loaded_bytes, choosing.stored_bytes, choosing.flops) == (
        formula.loaded, formula.stored, formula.flops)  # fmt: skip
    formula = prices.gather_traffic(1, 2, 32, top_k)
    assert (copying.loaded_bytes, copying.stored_bytes) == (formula.loaded, formula.stored)
    formula = prices.attention_traffic(1, group, 2, 32, top_k, splits=2)
    assert (near.loaded_bytes, near.stored_bytes) == (layers * formula.loaded, layers * formula.stored)


def test_what_does_not_fit_is_refused_in_a_sentence():
    query, key, weight = asked(30)
    for message, changes in {
        "top_k must be a whole number of at least 1; it is 0": dict(top_k=0),
        "top_k must be a whole number of at least 1; it is 3.0": dict(top_k=3.0),
        "local must be a whole number of at least 0; it is -1": dict(local=-1),
        "local must be at most top_k; they are 4 and 3": dict(local=4),
        r"query must be \[.* its shape is \(4, 1, 16\)": dict(query=query[0]),
        "must share a floating dtype": dict(weight=weight.float()),
        "must share a device": dict(key=key.to("meta")),
        "float32, float16 or bfloat16; got torch.float64": dict(implementation="triton"),
    }.items():
        with pytest.raises(ValueError, match=message):
            select_rows(**dict(query=query, key=key, weight=weight, top_k=3) | changes)
    single = [each.float() for each in (query, key, weight)]
    with pytest.raises(ValueError, match=r"index_dim among \(16, 32, 64, 128\); got 8: use"):
        select_rows(single[0][..., :8], single[1][..., :8], single[2], top_k=3, implementation="triton")
    with pytest.raises(ValueError, match="keeps at most 2048 rows; top_k is 5000: use"):
        select_rows(*single, top_k=5000, implementation="triton")
    many = [single[0].repeat(1, 20, 1, 1), single[1], single[2].repeat(1, 20, 1)]
    with pytest.raises(ValueError, match="at most 64 index heads; got 80: use"):
        select_rows(*many, top_k=3, implementation="triton")
    with pytest.raises(ValueError, match="key must be .* one index key per token"):
        select_rows(query, key.expand(-1, 2, -1, -1), weight, top_k=3)
    with pytest.raises(ValueError, match=r"weight \[batch, index_heads, 1\]; got"):
        select_rows(query, key, weight[:, :2], top_k=3)
    with pytest.raises(ValueError, match="implementation must be .* 'fast'"):
        select_rows(query, key, weight, top_k=3, implementation="fast")
    with pytest.raises(ValueError, match="keeps at most 2048 rows; top_k is 5000"):
        capacity_of(5000, 64)
    # On the CPU, where a call looks at numbers.
    (query, key, value), rows = (each.cpu() for each in tensors(30)), rows_of(30, 3).cpu()
    for message, changes in {
        r"rows must be integers \[2, count\]; got": dict(rows=rows[:1]),
        "rows must be signed integers; got torch.float32": dict(rows=torch.zeros(2, 3)),
        r"rows must be \[batch, count\]; its shape is \(3,\)": dict(rows=rows[0]),
        r"rows must lie in \[0, 30\), or be -1 for none; they hold 99": dict(rows=torch.tensor([[2, 99]] * 2)),
        "or be -1 for none; they hold -2": dict(rows=torch.tensor([[2, -2]] * 2)),
        "rows must each be listed once; 7 is listed twice": dict(rows=torch.tensor([[7, 2, 7]] * 2)),
        r"query must be \[.* its shape is \(8, 1, 32\)": dict(query=query[0]),
        r"key must be \[.* its shape is \(2, 30, 32\)": dict(key=key[0]),
        "must share a floating dtype": dict(query=query.float()),
        "key, rows must share a device": dict(rows=rows.to("meta")),
        "query, key must share a device": dict(query=query.to("meta")),
        "scale must be a finite number; it is nan": dict(scale=math.nan),
        "implementation must be .* 'fast'": dict(implementation="fast"),
    }.items():
        with pytest.raises(ValueError, match=message):
            row_attention(**dict(query=query, key=key, value=value, rows=rows) | changes)
    with pytest.raises(ValueError, match="they hold -5"):
        row_attention(query, key, value, rows_of(30, 30).cpu() - 5, gathered_already=True)
    with pytest.raises(ValueError, match=r"rows must lie in \[0, 30\)"):
        gather_rows(key, value, rows + 30)
    with pytest.raises(ValueError, match="head_dim and value_dim among .* got 8 and 8"):
        gather_rows(
            **placed(dict(key=key[..., :8].float(), value=value[..., :8].float(), rows=rows, implementation="triton"))
        )
    with pytest.raises(ValueError, match="gathered keys have 30 rows, the list 3"):
        row_attention(query, key, value, rows, gathered_already=True)
    with pytest.raises(ValueError, match="key heads must divide query heads"):
        row_attention(query[:, :3], key, value, rows)
    with pytest.raises(ValueError, match="query must be .* and fit the keys"):
        row_attention(query[..., :4], key, value, rows)
    with pytest.raises(ValueError, match="key and value must agree"):
        gather_rows(key, value[:, :1], rows)
    with pytest.raises(ValueError, match="float32, float16 or bfloat16; got torch.float64"):
        row_attention(**placed(dict(query=query, key=key, value=value, rows=rows, implementation="triton")))


def test_the_operators_pass_opcheck():
    ask, (query, key, value) = asked(40, torch.float32), tensors(40, torch.float32, batch=1)
    rows = rows_of(40, 6, batch=1)
    torch.library.opcheck(index_select, (*ask, 6, 1))
    torch.library.opcheck(index_gather, (key, value, rows))
    torch.library.opcheck(index_attention, (query, key, value, rows, False, 0.2))


@pytest.mark.parametrize("implementation", [None, "triton"])
def test_a_compiled_step_is_one_graph(implementation):
    def step(ask, index, weight, query, key, value):
        rows, _ = select_rows(ask, index, weight, top_k=9, implementation=implementation)
        near = gather_rows(key, value, rows, implementation=implementation)
        first = row_attention(query, *near, rows, gathered_already=True, implementation=implementation)
        return *first, *row_attention(query, key, value, rows, implementation=implementation)

    inputs = *asked(40, torch.float32), *tensors(40, torch.float32, batch=1)
    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(*inputs), step(*inputs), strict=True):
        torch.testing.assert_close(a, b)
