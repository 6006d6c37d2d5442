"""One shared index at the edges: what may not reach an output, ties, precisions, derivatives."""

import math

import pytest
import torch
from support.index_inputs import DEVICE, asked, interpreted, rows_of, tensors

from effattn_core.indexing import (
    choose_rows,
    gather_rows,
    gather_torch,
    gathered,
    mask_of,
    oracle,
    row_attention,
    select_rows,
)
from kernels.indexing.operators import index_attention, index_gather


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
@pytest.mark.parametrize("entry", [math.inf, -math.inf, math.nan, 3e38])
@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_in_no_chosen_row_does_not_reach_the_output(kind, entry, implementation):
    """Also row 0, which stands in for an entry of -1 where rows are gathered."""
    inputs, rows = dict(zip(("query", "key", "value"), tensors(50, torch.float32), strict=True)), rows_of(50, 9)
    rows = torch.cat([rows + (rows == 0), torch.full_like(rows[:, :2], -1)], 1)[:, 1:]
    rows = torch.where(rows == 1, -1, rows)
    before = row_attention(**inputs, rows=rows, implementation=implementation)
    seen = mask_of(rows[:, None], 50)[:, 0]
    spoiled = inputs | {kind: inputs[kind].masked_fill(~seen[:, None, :, None], entry)}
    for a, b in zip(row_attention(**spoiled, rows=rows, implementation=implementation), before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    near = dict(zip(("key", "value"), gather_rows(inputs["key"], inputs["value"], rows), strict=True))
    near[kind] = near[kind].masked_fill((rows < 0)[:, None, :, None], entry)  # of a -1 nothing is read
    ours = row_attention(inputs["query"], **near, rows=rows, gathered_already=True, implementation=implementation)
    for a, b in zip(ours, before, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    clean = gather_rows(spoiled["key"], spoiled["value"], rows, implementation=implementation)
    assert all(each.isfinite().all() for each in clean)


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_without_a_place_in_an_order_have_one(implementation):
    """inf first, the newer before the older; -inf and nan last; and a list is filled up with what there is."""
    query, key, weight = (torch.ones(1, *shape) for shape in ((2, 1, 16), (1, 8, 16), (2, 1)))
    key[0, 0, :, 0] = torch.tensor([math.nan, math.inf, 3.0, -math.inf, math.inf, 1.0, math.nan, 2.0])

    def chosen(top_k, local=0, weight=weight):
        call = dict(top_k=top_k, local=local, implementation=implementation)
        rows, scores = select_rows(query, key, weight, **call)
        assert ((rows < 0) <= (scores == -math.inf)).all() and not scores.isnan().any()
        return rows[0].tolist()

    assert chosen(1) == [4] and chosen(2) == [1, 4] and chosen(3) == [1, 2, 4]
    assert chosen(6) == [1, 2, 3, 4, 5, 7] and chosen(10) == [*range(8), -1, -1]
    assert chosen(7) == [1, 2, 3, 4, 5, 6, 7]
    assert chosen(2, 1) == [4, 7]
    minus = torch.tensor([[[1.0], [-1.0]]])  # inf - inf: nan again; the others cancel to 0
    assert chosen(3, 0, minus) == [3, 5, 7]
    assert chosen(8, 0, -weight) == list(range(8))


@pytest.mark.parametrize("implementation", ["oracle", "torch", "triton"])
def test_nothing_to_choose_from_gives_a_list_of_nothing(implementation):
    query, key, weight = asked(5, torch.float32)
    rows, scores = select_rows(query, key[:, :, :0], weight, top_k=3, implementation=implementation)
    assert rows.tolist() == [[-1, -1, -1]] and (scores == -math.inf).all() and rows.dtype == torch.int32
    rows, scores = select_rows(query[:0], key[:0], weight[:0], top_k=3, implementation=implementation)
    assert rows.shape == scores.shape == (0, 3)
    query, key, value = tensors(5, torch.float32)
    for near in ((key, value), (key[:, :, :0], value[:, :, :0])):
        part = row_attention(query, *near, torch.zeros(2, 0, dtype=torch.int64, device=DEVICE),
                             implementation=implementation)  # fmt: skip
        assert (part.output == 0).all() and (part.log_sum_exp == -math.inf).all()


def test_where_no_number_is_looked_at_a_row_that_is_not_there_gives_zeros_and_is_left_out():
    """As on a GPU, and as in a graph: here the operators and forms are called themselves."""
    query, key, value = tensors(30, torch.float32, batch=1)
    rows, less = (torch.tensor([each], device=DEVICE) for each in ([3, 99, 7], [3, -1, 7]))
    for near in (index_gather(key, value, rows), gather_torch(rows, key, value)):
        assert all((each[:, :, 1] == 0).all() and (each[:, :, 0] != 0).all() for each in near)
    wanted = row_attention(query, key, value, less, implementation="oracle")
    for part in (index_attention(query, key, value, rows, False, 32**-0.5),
                 gathered(query, key, value, rows, scale=32**-0.5)):  # fmt: skip
        for ours, truth in zip(part, wanted, strict=True):
            torch.testing.assert_close(ours, truth)


def test_choosing_from_scores_of_nan_keeps_every_seen_token():
    scores = torch.tensor([[[0.0, math.nan, 2.0, math.nan, 1.0, -math.inf, -math.inf]]])
    assert choose_rows(scores, 5, 0).tolist() == [[[0, 1, 2, 3, 4]]]
    assert choose_rows(scores, 3, 0).tolist() == [[[0, 2, 4]]]
    assert choose_rows(scores, 6, 0).tolist() == [[[0, 1, 2, 3, 4, -1]]]


def test_the_definition_is_computed_in_float64_and_answers_in_the_inputs_dtype():
    query, key, value = tensors(60, torch.float16)
    rows, exact = rows_of(60, 20), [each.double() for each in (query, key, value)]
    found = row_attention(query, key, value, rows, implementation="oracle")
    truth = oracle(*exact, rows, scale=32**-0.5)
    assert torch.equal(found.output, truth.output.half()) and torch.equal(found.log_sum_exp, truth.log_sum_exp.float())
    # Two scores that float32 cannot tell apart, the older above by 1e-9: the definition tells them apart.
    ask, index, weight = (torch.ones(1, *shape) for shape in ((2, 1, 16), (1, 2, 16), (2, 1)))
    index[0, 0, 0, :3], index[0, 0, 1, :3] = torch.tensor([2.0**27, 1, -(2.0**27)]), 0.0
    rows, scores = select_rows(ask, index, weight, top_k=1, local=0, implementation="oracle")
    assert rows.tolist() == [[0]] and scores.dtype == torch.float32


@interpreted
def test_interpreted_kernels_compute_bfloat16_in_float32():
    query, key, value = tensors(60, torch.bfloat16, batch=1)
    ask = [each.bfloat16() for each in asked(60)]
    found = {}
    for name in ("triton", "torch"):
        rows, scores = select_rows(*ask, top_k=9, implementation=name)
        near = gather_rows(key, value, rows, implementation=name)
        part = row_attention(query, *near, rows, gathered_already=True, implementation=name)
        found[name] = (rows, scores, *near, *part, *row_attention(query, key, value, rows, implementation=name))
    for ours, plain in zip(found["triton"], found["torch"], strict=True):
        assert ours.dtype == plain.dtype
        torch.testing.assert_close(ours, plain, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("implementation", [None, "oracle", "torch"])
def test_derivatives_of_the_plain_forms_are_right(implementation):
    inputs, rows = [each.requires_grad_() for each in tensors(8, group=2, head_dim=2, batch=1)], rows_of(8, 3, batch=1)
    rows = torch.cat([rows, torch.full_like(rows[:, :1], -1)], 1)

    def both(query, key, value):
        near = gather_rows(key, value, rows, implementation=implementation)
        part = row_attention(query, *near, rows, gathered_already=True, implementation=implementation)
        return *part, *row_attention(query, key, value, rows, implementation=implementation)

    assert torch.autograd.gradcheck(both, inputs, check_forward_ad=True)
    with pytest.raises(ValueError, match="no forward-mode derivative"):
        single = [each.detach().repeat(1, 1, 1, 16).float() for each in inputs]
        torch.func.jvp(lambda value: row_attention(*single[:2], value, rows, implementation="triton").output,
                       tuple(single[2:]), tuple(single[2:]))  # fmt: skip
