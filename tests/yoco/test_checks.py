"""YOCO's exercises: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
from support.house import assert_named, assert_solved


def prefill(read, answer, hidden):
    hidden, shared = read(hidden)
    return answer(hidden[:, -1:], shared)


def late(read, answer, hidden):
    return answer(*read(hidden))[:, -1:]


def raw(read, answer, hidden):
    return answer(hidden[:, -1:], read(hidden)[1])


def cache(model, context, architecture, window=1024, element=2, kinds=2):
    row = kinds * element * model.head_dim
    if architecture == "grouped":
        return model.layers * row * model.key_value_heads * context
    return row * model.key_value_heads * context + model.layers // 2 * row * model.heads * window


def ranks(states, log_decays, fade=True, own=False):
    before, entering = torch.zeros_like(states[0]), []
    for state, log_decay in zip(states, log_decays, strict=True):
        entering.append(before)
        left = log_decay.exp()[:, None, None] if fade else 1.0
        before = left * (before + state) if own else left * before + state
    return torch.stack(entering)


SOLVED = {"yoco.prefill": prefill, "yoco.cache": cache, "yoco.ranks": ranks}
MISTAKES = [
    ("yoco.prefill", late, "Right, but not early"),
    ("yoco.prefill", raw, "got the embedding of the last token"),
    ("yoco.prefill", lambda *given: late(*given)[:, 0], "Return what the cross-decoder makes"),
    ("yoco.prefill", lambda *given: 2 * prefill(*given), "is off by"),
    ("yoco.cache", lambda *given: cache(*given, kinds=1), "Keys and values are two"),
    ("yoco.cache", lambda *given: cache(*given, window=0), "the windows of the self-decoder are missing"),
    ("yoco.cache", lambda model, context, _: cache(model, context, "grouped"), "a YOCO keeps one"),
    ("yoco.cache", lambda *given: 7, "7 is not"),
    ("yoco.ranks", lambda *given: ranks(*given, fade=False), "Nothing fades"),
    ("yoco.ranks", lambda *given: ranks(*given, own=True), "not the state that it makes itself"),
    ("yoco.ranks", lambda states, log_decays: states, "enters with nothing"),
    ("yoco.ranks", lambda states, log_decays: states[:, 0], "ranks enter with"),
    ("yoco.ranks", lambda states, log_decays: -ranks(states, log_decays), "are off by"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "wrong", "sentence"), MISTAKES, ids=[sentence for *_, sentence in MISTAKES])
def test_a_known_mistake_is_named(name, wrong, sentence):
    assert_named(name, wrong, sentence)
