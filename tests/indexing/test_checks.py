"""The exercises on one shared index: a stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
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


def lost(layers=20, aside=1.0):
    attention = torch.zeros(layers, 16)
    attention[:-1, :4] = 0.25
    attention[-1, :4], attention[-1, 9] = (1 - aside) / 4, aside
    return attention


@triton.jit
def halve_kernel(A, B, Out, N: tl.constexpr, POWER: tl.constexpr, FALLING: tl.constexpr):
    i = tl.arange(0, N)
    x = tl.maximum(tl.load(A + i), tl.load(B + i))
    for step in tl.static_range(POWER):
        d = N >> (step + 1)
        other = tl.gather(x, i ^ d, 0)
        x = tl.where(((i & d) == 0) == FALLING, tl.maximum(x, other), tl.minimum(x, other))
    tl.store(Out + i, x)


@triton.jit
def unordered_kernel(A, B, Out, N: tl.constexpr, POWER: tl.constexpr):
    """Distances from 1 up, which orders nothing."""
    i = tl.arange(0, N)
    x = tl.maximum(tl.load(A + i), tl.load(B + i))
    for step in tl.static_range(POWER):
        d = 1 << step
        other = tl.gather(x, i ^ d, 0)
        x = tl.where((i & d) == 0, tl.maximum(x, other), tl.minimum(x, other))
    tl.store(Out + i, x)


@triton.jit
def stray_kernel(A, B, Out, N: tl.constexpr, POWER: tl.constexpr):
    """Columns of twice the list, the second half past its end."""
    i = tl.arange(0, 2 * N)
    x = tl.maximum(tl.load(A + i), tl.load(B + i))
    for step in tl.static_range(POWER):
        d = N >> (step + 1)
        other = tl.gather(x, i ^ d, 0)
        x = tl.where((i & d) == 0, tl.maximum(x, other), tl.minimum(x, other))
    tl.store(Out + i, x, mask=i < N)


def launched_with(kernel, *last):
    def launch(best, fresh, rounds=None):
        out = torch.empty_like(best)
        power = len(best).bit_length() - 1 if rounds is None else rounds
        kernel[(1,)](best, fresh, out, len(best), power, *last)
        return out

    return launch


halve = launched_with(halve_kernel, True)


def smallest(attention, share):
    order = attention.mean(0).argsort(descending=True)
    return int((attention[:, order].cumsum(1).min(0).values < share).sum()) + 1


def by_mean(attention, share):
    return int((attention.mean(0).sort(descending=True).values.cumsum(0) < share).sum()) + 1


def by_own(attention, share):
    return int((attention.sort(descending=True).values.cumsum(1).min(0).values < share).sum()) + 1


SOLVED = {
    "indexing.meeting": 16 * 2048 * 2048 / 132,
    "indexing.columns": sum(range(1, 12)),
    "indexing.scores": scores,
    "indexing.teacher": teacher,
    "indexing.gather": gather,
    "indexing.lost": lost,
    "indexing.halve": halve,
    "indexing.smallest": smallest,
}
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
    ("indexing.meeting", 2048 * 2048 / 132, "multiply by 16"),
    ("indexing.meeting", 16 * 2048 * 1024 / 132, "a key and a value"),
    ("indexing.meeting", 16 * 2048 * 2048 / 128, "The scale of a routing key"),
    ("indexing.meeting", 16 * 2048 * 2048 / 260, "one byte each"),
    ("indexing.columns", 11, "each of them has to be sorted"),
    ("indexing.columns", 121, "Not every doubling"),
    ("indexing.columns", 55, "the last merge is missing"),
    ("indexing.columns", 1024 * 66, "happen at once"),
    ("indexing.lost", lambda: lost(20, 0.9), "still finds"),
    ("indexing.lost", lambda: lost(8), "too few layers agree"),
    ("indexing.lost", lambda: 2 * lost(), "A row is no law"),
    ("indexing.lost", lambda: lost()[:, :8], "Return attention of some layers"),
    ("indexing.halve", lambda best, fresh: torch.cat([best, fresh]).sort(descending=True).values[: len(best)],
     "No Triton kernel"),
    ("indexing.halve", lambda best, fresh: halve(best, fresh, 0), "not yet in order"),
    ("indexing.halve", launched_with(halve_kernel, False), "keeps the larger"),
    ("indexing.halve", launched_with(unordered_kernel), "from half the list down to 1"),
    ("indexing.halve", launched_with(stray_kernel), "keep lanes inside"),
    ("indexing.halve", lambda best, fresh: halve(best, best), "came back as it was"),
    ("indexing.halve", lambda best, fresh: halve(fresh, fresh), "is it the best half"),
    ("indexing.smallest", lambda *given: smallest(*given) - 1, "One too few"),
    ("indexing.smallest", by_mean, "served worst decides"),
    ("indexing.smallest", by_own, "one order, the mean's"),
    ("indexing.smallest", lambda *given: smallest(*given) + 2, "for 90% of each"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "wrong", "sentence"), MISTAKES, ids=[sentence for *_, sentence in MISTAKES])
def test_a_known_mistake_is_named(name, wrong, sentence):
    assert_named(name, wrong, sentence)
