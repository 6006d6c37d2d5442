"""The chapter's exercises: an unsolved stub fails, a solution passes, and each known mistake is named."""

import itertools

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.rectified import block_bounds, bound_scores
from effattn_core.rectified.checks import token_ratio


def bounds(query, key, size):
    low, high = block_bounds(key, size)
    return torch.maximum(query[:, :, None] * low, query[:, :, None] * high).sum(-1)


def padded_by_zero(query, key, size):
    key = torch.nn.functional.pad(key, (0, 0, 0, -key.shape[2] % size))
    return bounds(query, key, size)


def best_scores(query, key, size):
    score = torch.einsum("bhd,bhnd->bhn", query, key)
    score = torch.nn.functional.pad(score, (0, -key.shape[2] % size), value=-torch.inf)
    return score.unflatten(2, (-1, size)).amax(3)


def highest_alone(query, key, size):
    low, high = block_bounds(key, size)
    return (query[:, :, None] * high).sum(-1) if size > 1 else bounds(query, key, size)


def by_size_of_query(query, key, size):
    return bounds(query, key, size) + (0 if size == 1 else 1)


def rewound(lowest, highest, key, count, size):
    first = (key.shape[2] - count) // size
    made = block_bounds(key[:, :, first * size :], size)
    lowest[:, :, first:], highest[:, :, first:] = made
    return lowest, highest


def only_widened(lowest, highest, key, count, size):
    first = (key.shape[2] - count) // size
    low, high = block_bounds(key[:, :, first * size :], size)
    lowest[:, :, first:] = torch.minimum(lowest[:, :, first:], low)
    highest[:, :, first:] = torch.maximum(highest[:, :, first:], high)
    return lowest, highest


def last_alone(lowest, highest, key, count, size):
    low, high = block_bounds(key, size)
    lowest[:, :, -1], highest[:, :, -1] = low[:, :, -1], high[:, :, -1]
    return lowest, highest


def spent(budget, sizes, actives, periods):
    inside = [each for each in itertools.product(sizes, actives, periods)
              if 1 / each[0] + each[1] + 1 / each[2] <= budget + 1e-12]  # fmt: skip
    return max(inside, key=lambda each: (each[1], -each[2], -each[0]), default=None)


def cancelling():
    return torch.tensor([[9.0, 4], [-9, 4]]), torch.tensor([[2.0, 0], [-2, 0], [0, 1.5]])


@triton.jit
def scores_kernel(Q, Low, High, Score, blocks, D: tl.constexpr, N: tl.constexpr, MASKED: tl.constexpr):
    dims, block = tl.arange(0, D), tl.program_id(0) * N + tl.arange(0, N)
    inside = (block < blocks) if MASKED else (block >= 0)
    query, places = tl.load(Q + dims)[None, :], block[:, None] * D + dims[None, :]
    low = tl.load(Low + places, mask=inside[:, None], other=0.0)
    high = tl.load(High + places, mask=inside[:, None], other=0.0)
    tl.store(Score + block, tl.sum(tl.maximum(query * low, query * high), 1), mask=inside)


def scored(query, low, high, masked=True, all_of_them=True):
    score = torch.empty(len(low), device=query.device)
    programs = triton.cdiv(len(low), 16) if all_of_them else 1
    scores_kernel[(programs,)](query, low, high, score, len(low), len(query), 16, masked)
    return score


def swapped(query, low, high):
    """The right sums of the wrong corners: a kernel runs, but bounds nothing."""
    scored(query, low, high)
    return torch.maximum(low @ query, high @ query)


def any_head(query, low, high):
    return torch.maximum(query[:, None] * low, query[:, None] * high).sum(-1).amax(0)


def of_the_mean(query, low, high):
    return any_head(query.mean(0, keepdim=True), low, high)


SOLVED = {
    "rectified.by_hand": 5,
    "rectified.teeth": (384 / 160) ** 0.5,
    "rectified.whole_token": token_ratio(),
    "rectified.bounds": bounds,
    "rectified.rewound": rewound,
    "rectified.budget": spent,
    "rectified.pooling": cancelling,
    "rectified.scores": scored,
    "rectified.any_head": any_head,
}
MISTAKES = [
    ("rectified.by_hand", 3, "the score of the best key"),
    ("rectified.by_hand", 2, "the corner of the highest numbers"),
    ("rectified.by_hand", 1, "the corner of the lowest numbers"),
    ("rectified.teeth", 2.4, "take the root"),
    ("rectified.teeth", 0.6455, "the last over the first"),
    ("rectified.teeth", 1, "weighed against ever more"),
    ("rectified.teeth", 2.828, "does not begin empty"),
    ("rectified.whole_token", 5.16, "the cache alone"),
    ("rectified.whole_token", 1 / token_ratio(), "over the dense one"),
    ("rectified.whole_token", 1.711, "passes run alone"),
    ("rectified.whole_token", 10, "Bounds and passes"),
    ("rectified.scores", lambda query, low, high: scored(query, low, high, masked=False), "mask the lanes"),
    ("rectified.scores", lambda query, low, high: scored(query, low, high, all_of_them=False), "are never written"),
    ("rectified.scores", lambda query, low, high: any_head(query[None], low, high), "No Triton kernel"),
    ("rectified.scores", swapped, "two sums"),
    ("rectified.scores", lambda query, low, high: scored(query, high, high), "the lowest key counts"),
    ("rectified.scores", lambda query, low, high: scored(2 * query, low, high), "the larger product in each dimension"),
    ("rectified.scores", lambda query, low, high: scored(query, low, high)[:, None], "(70,); got (70, 1)"),
    ("rectified.any_head", of_the_mean, "cancel"),
    ("rectified.any_head", lambda query, low, high: torch.maximum(query[:, None] * low, query[:, None] * high)
     .sum(-1).mean(0), "outvoted"),
    ("rectified.any_head", lambda query, low, high: torch.maximum(query[:, None] * low, query[:, None] * high)
     .sum(-1), "share one list"),
    ("rectified.any_head", lambda query, low, high: any_head(query, low, high) + 1, "is off by"),
    ("rectified.bounds", padded_by_zero, "what stands in for the keys that are not there"),
    ("rectified.bounds", best_scores, "reads every key of the block"),
    ("rectified.bounds", highest_alone, "where the query's number is negative"),
    ("rectified.bounds", by_size_of_query, "not the closest"),
    ("rectified.bounds", lambda query, key, size: bounds(query, key, size)[..., :1], "give scores (1, 2, 2)"),
    ("rectified.bounds", lambda query, key, size: 2 * bounds(query, key, 1) if size == 1 else bounds(query, key, size),
     "the bound is the score of that key"),
    ("rectified.rewound", only_widened, "too wide"),
    ("rectified.rewound", last_alone, "outside its block's bounds"),
    ("rectified.rewound", lambda low, high, key, count, size: block_bounds(key, size), "no rectified token lies in"),
    ("rectified.rewound", lambda low, high, *rest: (low, high), "Nothing changed"),
    ("rectified.rewound", lambda *given: None, "Return (lowest, highest)"),
    ("rectified.budget", lambda *given: (64, 0.4, 64), "is more than"),
    ("rectified.budget", lambda *given: (64, 0.05, 64), "blocks could be read more"),
    ("rectified.budget", lambda limit, *grids: (64, spent(limit, *grids)[1], 64), "rectify most often"),
    ("rectified.budget", lambda limit, *grids: None, "Something fits"),
    ("rectified.budget", lambda limit, *grids: spent(limit, *grids) or (64, 0.05, 64), "Nothing fits"),
    ("rectified.pooling", lambda: (torch.eye(2), torch.eye(2)), "3 or more"),
    ("rectified.pooling", lambda: (torch.ones(2, 2), torch.tensor([[9.0, 9], [0, 1], [1, 0]])), "Both heads want"),
    ("rectified.pooling", lambda: (9 * torch.eye(2), torch.tensor([[1.0, 0], [0, 1], [-1, -1]])), "which a head wants"),
    ("rectified.pooling", lambda: tuple(0.1 * each for each in cancelling()), "spread out"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_hidden_solution_is_the_library_s():
    query, key = torch.randn(1, 2, 6), torch.randn(1, 2, 9, 6)
    wanted = bound_scores(query[:, :, None], *block_bounds(key, 4), scale=1.0)
    torch.testing.assert_close(bounds(query, key, 4), wanted)
