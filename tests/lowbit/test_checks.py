"""The exercises on lowbit: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
from support.house import assert_named, assert_solved


def first():
    raise AssertionError("TO WRITE: the solution of lowbit.first.")


def launch():
    raise AssertionError("TO WRITE: the solution of lowbit.launch.")


SOLVED = {"lowbit.count": 0, "lowbit.first": first, "lowbit.launch": launch}
# TO WRITE: (exercise, a known mistake, words of the sentence that names it).
MISTAKES = [("lowbit.first", lambda: 0, "TO WRITE: the sentence of this mistake")]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
