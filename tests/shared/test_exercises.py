"""Exercises: how they are registered and graded. The answers to each are tried in its topic's test_checks.py."""

import numpy
import pytest
import torch
from support.house import assert_named, notebooks

from effattn_core import exercises
from effattn_core.exercises import EXERCISES, LEVELS, compare_number, exercise, grade


def unsolved(*arguments):
    raise NotImplementedError


def test_what_a_function_raises_becomes_a_sentence():
    assert_named("attention.window_mask", lambda: 0, "It raised TypeError")


def test_every_exercise_has_a_stub_and_a_graded_solution_in_a_chapter():
    text = "".join(path.with_suffix(".md").read_text() for path in notebooks())
    exercises.register_all()
    for name in EXERCISES:
        assert f'verdict = grade("{name}"' in text and f'assert grade("{name}"' in text, name


def test_an_unknown_exercise_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="there is no exercise 'attention.nothing'"):
        grade("attention.nothing", unsolved)


@pytest.fixture
def specimen(monkeypatch):
    """An exercise of each level that lasts for one test: specimen(level, check) gives its name."""
    monkeypatch.setattr(exercises, "EXERCISES", dict(EXERCISES))

    def register(level, check=lambda answer: None):
        exercise(f"specimen.{level}", level=level)(check)
        return f"specimen.{level}"

    return register


def test_the_verdict_is_printed(specimen, capsys):
    grade(specimen("pencil", lambda answer: None if answer == 3 else "Three is asked."), 2.0)
    assert capsys.readouterr().out == "specimen.pencil: not yet. Three is asked.\n"
    grade("specimen.pencil", 3)
    assert capsys.readouterr().out == "specimen.pencil: passed\n"


@pytest.mark.parametrize("answer", [3, 2.5, (1, 2.0), [1, 2], numpy.float64(3), numpy.int64(3)])
def test_a_pencil_exercise_takes_numbers(specimen, answer):
    name = specimen("pencil", lambda given: None if isinstance(given, tuple) == hasattr(answer, "__len__") else "No.")
    assert grade(name, answer).passed


@pytest.mark.parametrize(
    ("level", "answer", "said"),
    [
        ("pencil", max, "takes a number, or a tuple of numbers, not a function."),
        ("pencil", "12", "takes a number, or a tuple of numbers, not '12'."),
        ("pencil", True, "takes a number, or a tuple of numbers, not True."),
        ("pencil", (1, None), "takes a number, or a tuple of numbers, not a tuple."),
        ("pencil", float("nan"), "takes a number, or a tuple of numbers, not nan."),
        ("pencil", torch.ones(2), "takes a number, or a tuple of numbers, not a Tensor."),
        ("code", 3, "takes the function itself, not 3: grade(name, function)."),
        ("kernel", torch.ones(2), "takes the function itself, not a Tensor: grade(name, function)."),
        ("pencil", ..., "It is not written yet."),
        ("code", None, "It is not written yet."),
    ],
)
def test_an_answer_of_the_wrong_kind_is_refused_in_a_sentence(specimen, level, answer, said):
    verdict = grade(specimen(level), answer)
    assert not verdict.passed and said in verdict.reason


def test_an_open_exercise_takes_what_its_check_takes(specimen):
    assert grade(specimen("open"), max).passed and grade("specimen.open", 3).passed


def test_a_level_that_does_not_exist_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="has level 'hard'; a level is one of predict, pencil, code, kernel, open"):
        exercise("specimen.hard", level="hard")


def test_every_exercise_has_a_level():
    exercises.register_all()
    assert {each.level for each in EXERCISES.values()} <= {*LEVELS}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (128.0, None),
        (128.9, None),
        (64, "Keys and values are both kept."),
        (32, "32 is too small, by a factor of 4."),
        (384, "384 is too large, by a factor of 3."),
        (-128, "-128 is not it."),
        ((128, 1), "One number is asked; you gave (128, 1)."),
    ],
)
def test_a_number_that_is_wrong_is_told_what_the_likely_mistake_is(answer, said):
    assert compare_number(answer, 128, [(64, "Keys and values are both kept.")]) == said
