"""Exercises that grade themselves: `grade(name, function)` calls a reader's function on cases it has not seen.

A failure says what differs and the likely cause. Cases live with their topic: `<topic>/checks.py` registers them.
"""

import importlib
import importlib.util
from dataclasses import dataclass

from effattn_core import topic_modules, topics

EXERCISES = {}


@dataclass(frozen=True)
class Verdict:
    """What grading found. reason: empty when passed."""

    name: str
    passed: bool
    reason: str = ""

    def __repr__(self):
        return f"{self.name}: passed" if self.passed else f"{self.name}: not yet. {self.reason}"


def exercise(name):
    """Register a check: it takes the reader's function and returns None, or a sentence on what is wrong."""

    def register(check):
        if name in EXERCISES and EXERCISES[name].__module__ != check.__module__:
            raise ValueError(f"exercise {name!r} stands twice: in {EXERCISES[name].__module__} and {check.__module__}.")
        EXERCISES[name] = check
        return check

    return register


def grade(name, function):
    """Call `function` on the hidden cases of exercise `name` ("topic.exercise"), print the verdict, return it.

    Whatever the function raises becomes a sentence. Raises ValueError for a name that is no exercise.
    """
    topic = name.partition(".")[0]
    if topic in topics() and importlib.util.find_spec(f"effattn_core.{topic}.checks"):
        importlib.import_module(f"effattn_core.{topic}.checks")  # which registers its exercises
    if name not in EXERCISES:
        topic_modules("checks")
        raise ValueError(f"there is no exercise {name!r}; there are {', '.join(sorted(EXERCISES))}.")
    try:
        reason = EXERCISES[name](function)
    except NotImplementedError:
        reason = "It is not written yet."
    except Exception as error:
        reason = f"It raised {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}."
    verdict = Verdict(name, reason is None, reason or "")
    print(verdict)
    return verdict
