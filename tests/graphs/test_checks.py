"""The exercises on graphs: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
from support.house import assert_named, assert_solved


def first():
    raise AssertionError("TO WRITE: the solution of graphs.first.")


def launch():
    raise AssertionError("TO WRITE: the solution of graphs.launch.")


SOLVED = {"graphs.count": 0, "graphs.first": first, "graphs.launch": launch}
# TO WRITE: (exercise, a known mistake, words of the sentence that names it).
MISTAKES = [("graphs.first", lambda: 0, "TO WRITE: the sentence of this mistake")]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
