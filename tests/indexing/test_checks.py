"""The exercises on one shared index: a stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
from support.house import assert_named, assert_solved


def scores(query, key, weight, *, relu="inside", factor=None):
    heads, _, index_dim = query.shape
    product = query @ key.mT
    if relu == "inside":
        product = product.clamp(min=0)
    total = (weight[..., None] * product).sum(0) * ((heads * index_dim) ** -0.5 if factor is None else factor(query))
    return total.clamp(min=0) if relu == "outside" else total


def teacher(attention, index):
    return index.softmax(-1) - attention.mean(0)


def gather(query, key, value, rows, *, hide=float("-inf"), scale=8**-0.5, keep=False):
    rows = rows if keep else rows[rows >= 0]
    return (scale * query @ key[rows].mT).softmax(-1) @ value[rows]


def zeroed(query, key, value, rows):
    seen = torch.zeros(len(key), dtype=torch.bool).scatter_(0, rows[rows >= 0], True)
    return ((8**-0.5 * query @ key.mT).softmax(-1) * seen) @ value


def at_zero(query, key, value, rows):
    return (8**-0.5 * query @ key[rows].mT).masked_fill(rows < 0, 0.0).softmax(-1) @ value[rows]


SOLVED = {"indexing.scores": scores, "indexing.teacher": teacher, "indexing.gather": gather}
MISTAKES = [
    ("indexing.scores", lambda *given: scores(*given, factor=lambda query: 1.0), "The factor is missing"),
    ("indexing.scores", lambda *given: scores(*given, factor=lambda query: query.shape[2] ** -0.5),
     "square root of the heads is missing"),
    ("indexing.scores", lambda *given: scores(*given, relu="none"), "Without the ReLU"),
    ("indexing.scores", lambda *given: scores(*given, relu="outside"), "belongs inside the sum"),
    ("indexing.scores", lambda *given: scores(*given).T, "one score per query and token"),
    ("indexing.scores", lambda *given: scores(*given) + 1, "a score is off by"),
    ("indexing.teacher", lambda *given: -teacher(*given), "The sign is turned"),
    ("indexing.teacher", lambda attention, index: len(attention) * teacher(attention, index), "of the sum"),
    ("indexing.teacher", lambda attention, index: index.softmax(-1) - attention[0], "Only the first layer"),
    ("indexing.teacher", lambda attention, index: index - attention, "A gradient has a number"),
    ("indexing.teacher", lambda attention, index: index, "the gradient is off by"),
    ("indexing.gather", lambda query, key, value, rows: (8**-0.5 * query @ key.mT).softmax(-1) @ value, "dense"),
    ("indexing.gather", zeroed, "no longer sum to one"),
    ("indexing.gather", lambda *given: gather(*given, keep=True), "reads the last token"),
    ("indexing.gather", at_zero, "a weight of exp(0)"),
    ("indexing.gather", lambda *given: gather(*given, scale=1.0), "The scale is missing"),
    ("indexing.gather", lambda *given: gather(*given)[0], "an output for each layer and head"),
    ("indexing.gather", lambda *given: -gather(*given), "the output is off by"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "wrong", "sentence"), MISTAKES, ids=[sentence for *_, sentence in MISTAKES])
def test_a_known_mistake_is_named(name, wrong, sentence):
    assert_named(name, wrong, sentence)
