"""Retention's exercises: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core.retention import chunkwise


def step(query, key, value, decay, state):
    state = decay[:, None, None] * state + key[..., :, None] * value[..., None, :]
    return (query[..., None, :] @ state)[..., 0, :], state


def step_reading_first(query, key, value, decay, state):
    after = decay[:, None, None] * state + key[..., :, None] * value[..., None, :]
    return (query[..., None, :] @ state)[..., 0, :], after


def chunks(query, key, value, decay, size, late=False):
    """By hand, with the index slip on request: the cross term reads the state that already holds the chunk."""
    outputs, state = [], torch.zeros_like(key[:, :, :1].mT @ value[:, :, :1])
    for start in range(0, query.shape[2], size):
        near = [each[:, :, start : start + size] for each in (query, key, value)]
        inner, own = chunkwise(*near, decay, scale=1.0)
        after = decay[:, None, None] ** size * state + own
        entering = decay[:, None, None] ** torch.arange(1, size + 1)[:, None]
        outputs.append(inner + near[0] * entering @ (after if late else state))
        state = after
    return torch.cat(outputs, 2)


SOLVED = {
    "retention.step": step,
    "retention.chunk": chunks,
    "retention.decays": lambda half_lives: [0.5 ** (1 / each) for each in half_lives],
}
MISTAKES = [
    ("retention.step", step_reading_first, "Token 0 does not see itself"),
    ("retention.step", lambda q, k, v, d, s: step(q, k, v, torch.ones_like(d), s), "Nothing fades"),
    ("retention.step", lambda q, k, v, d, s: (step(q, k, v, d, s)[0], s[0]), "The state is"),
    ("retention.step", lambda q, k, v, d, s: (step(q, k, v, d, s)[0], s), "not the one that was read"),
    ("retention.chunk", lambda *case: chunks(*case, late=True), "from *before* the chunk"),
    ("retention.chunk", lambda q, k, v, d, size: chunks(q, k, v, d, size)[:, :, 1:], "it must be"),
    ("retention.decays", lambda lives: [math.exp(-1 / each) for each in lives], "leaves 1/e"),
    ("retention.decays", lambda lives: [1 - 0.1 / each for each in lives], "is left, not one half"),
    ("retention.decays", lambda lives: [2.0 for _ in lives], "lies in (0, 1]"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
