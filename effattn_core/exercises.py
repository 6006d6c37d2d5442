"""Exercises that grade themselves: `grade(name, answer)` holds a reader's answer against cases it has not seen.

An answer is a function (levels "code" and "kernel"), or a number or tuple of numbers (level "pencil"). A failure says
what differs and the likely cause. Cases live with their topic: `<topic>/checks.py` registers them with `exercise`. A
page that treats all topics at once has a file beside them, `NAME_checks.py`, and NAME in the names of its exercises.
"""

import importlib
import importlib.util
import math
import numbers
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import effattn_core
from effattn_core import topic_modules, topics

LEVELS = ("predict", "pencil", "code", "kernel", "open")  # in the order in which a chapter asks them
NUMBERS, FUNCTIONS = ("predict", "pencil"), ("code", "kernel")  # which answers a level takes; "open" takes either
EXERCISES = {}


@dataclass(frozen=True)
class Exercise:
    """A registered exercise. check(answer): None, or a sentence that names the likely mistake.

    cases(): of a "kernel" exercise, the calls that its answer is held against, which the page stores; else None.
    """

    name: str
    level: str
    check: Callable
    cases: Callable | None = None


@dataclass(frozen=True)
class Verdict:
    """What grading found. reason: empty when passed."""

    name: str
    passed: bool
    reason: str = ""

    def __repr__(self):
        return f"{self.name}: passed" if self.passed else f"{self.name}: not yet. {self.reason}"


def exercise(name, *, level, cases=None):
    """Register a check: it takes the reader's answer and returns None, or a sentence that names the likely mistake.

    A kernel's check is made from its cases: see `effattn_core.judging.kernel_exercise`.

    name: "topic.exercise". level: one of LEVELS. The check of a "code" or "kernel" exercise gets a function, that of a
    "pencil" or "predict" exercise a number or a tuple of numbers, that of an "open" one either.
    Raises ValueError for another level, and for a name that another module has registered.
    """
    if level not in LEVELS:
        raise ValueError(f"exercise {name!r} has level {level!r}; a level is one of {', '.join(LEVELS)}.")

    def register(check):
        if name in EXERCISES and EXERCISES[name].check.__module__ != check.__module__:
            there = EXERCISES[name].check.__module__
            raise ValueError(f"exercise {name!r} stands twice: in {there} and {check.__module__}.")
        EXERCISES[name] = Exercise(name, level, check, cases)
        return check

    return register


def grade(name, answer):
    """Hold `answer` against the hidden cases of exercise `name` ("topic.exercise"), print the verdict, return it.

    answer: a function, a number or a tuple of numbers, as the exercise's level says; `...` for one not written yet.
    An answer of the wrong kind, and whatever a function raises, becomes a sentence. Raises ValueError for a name that
    is no exercise.
    """
    found = exercise_of(name)
    reason = _wrong_kind(found.level, answer)
    if reason is None:
        try:
            reason = found.check(tuple(answer) if isinstance(answer, list) else answer)
        except NotImplementedError:
            reason = "It is not written yet."
        except Exception as error:
            reason = f"It raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}."
    verdict = Verdict(name, reason is None, reason or "")
    print(verdict)
    return verdict


def exercise_of(name):
    """The registered Exercise `name`. Raises ValueError for a name that is no exercise."""
    found = checks_of(name)
    if importlib.util.find_spec(found):
        importlib.import_module(found)  # which registers its exercises
    if name not in EXERCISES:
        register_all()
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(sorted(EXERCISES))}.")
    return EXERCISES[name]


def checks_of(name):
    """The module that would register an exercise: its topic's, or that of a page on all topics at once."""
    topic = name.partition(".")[0]
    return f"effattn_core.{topic}.checks" if topic in topics() else f"effattn_core.{topic}_checks"


def register_all():
    """Import every module that registers exercises."""
    topic_modules("checks")
    for each in pkgutil.iter_modules(effattn_core.__path__):
        if each.name.endswith("_checks"):
            importlib.import_module(f"effattn_core.{each.name}")


def compare_number(answer, wanted, mistakes=(), within=0.01):
    """Check a pencil answer: None if it is right, else a sentence.

    answer: the reader's. wanted: the right number. mistakes: (number, sentence) of each known way to go wrong: its
    sentence is given for that number. within: the relative error allowed, so that rounding is no mistake.
    """
    if not _is_number(answer):
        return f"One number is asked; you gave {answer!r}."
    if _near(answer, wanted, within):
        return None
    for number, sentence in mistakes:
        if _near(answer, number, within):
            return sentence
    if answer == 0 or wanted == 0 or (answer < 0) != (wanted < 0):
        return f"{answer:g} is not it."
    ratio = answer / wanted
    return f"{answer:g} is too {'large' if abs(ratio) > 1 else 'small'}, by a factor of {max(ratio, 1 / ratio):.3g}."


def known_mistake(found, mistakes, **tolerance):
    """The sentence of the first known way to go wrong that gives `found`, a tensor; None if none does.

    mistakes: (tensor, sentence) of each; tolerance: as of `torch.allclose`.
    """
    return next((sentence for mistake, sentence in mistakes if found.allclose(mistake, **tolerance)), None)


def _near(answer, wanted, within):
    return math.isclose(answer, wanted, rel_tol=within, abs_tol=0 if wanted else within)


def _is_number(answer):
    return isinstance(answer, numbers.Real) and not isinstance(answer, bool) and math.isfinite(answer)


def _wrong_kind(level, answer):
    """A sentence if `answer` is not of the kind that `level` takes, else None."""
    if answer is ... or answer is None:
        return "It is not written yet."
    if level in FUNCTIONS and not callable(answer):
        return f"This exercise takes the function itself, not {_described(answer)}: grade(name, function)."
    if level in NUMBERS:
        parts = answer if isinstance(answer, (tuple, list)) else (answer,)
        if not parts or not all(map(_is_number, parts)):
            return f"This exercise takes a number, or a tuple of numbers, not {_described(answer)}."
    return None


def _described(answer):
    if callable(answer):
        return "a function"
    return f"{answer!r}" if isinstance(answer, (int, float, str)) else f"a {type(answer).__name__}"
