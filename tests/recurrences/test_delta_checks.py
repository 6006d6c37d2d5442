"""The exercises on the delta rule: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
from support.house import assert_named, assert_solved


def delta_step(query, key, value, beta, state, erase=True, whole=False, late=False):
    wanted = value[..., None, :] - (key[..., None, :] @ state if erase else 0)
    after = state + key[..., :, None] @ (wanted if whole else beta[..., None, None] * wanted)
    return (query[..., None, :] @ (state if late else after))[..., 0, :], after


def read_after(rule, old, new, keep, beta):
    if rule == "gated":
        return keep * old + new
    kept = keep * old if rule == "gated_delta" else old
    return kept + beta * (new - kept)


SOLVED = {
    "recurrences.delta_step": delta_step,
    "recurrences.read_after": read_after,
}
MISTAKES = [
    ("recurrences.delta_step", lambda *case: delta_step(*case, late=True), "does not see itself"),
    ("recurrences.delta_step", lambda *case: delta_step(*case, erase=False), "Nothing is erased"),
    ("recurrences.delta_step", lambda *case: delta_step(*case, whole=True), "Every write is whole"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0], case[-1][0]), "The state is"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0][0], case[-1]), "The output is"),
    ("recurrences.delta_step", lambda *case: (delta_step(*case)[0], case[-1]), "not the one that was read"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: new, "it does not replace"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: keep * old + new if rule == "gated" else
     (1 - beta) * old + beta * new, "the state fades first"),
    ("recurrences.read_after", lambda rule, old, new, keep, beta: keep * old + new if rule == "gated" else
     old + beta * new, "takes beta of the old away"),
]  # fmt: skip


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
