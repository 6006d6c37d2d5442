"""What the check of a pencil exercise compares numbers with: the page judges by it as JupyterLab does (lab-number.js).

A check is asked about numbers that nobody would give, with `compare_number` replaced by one that notes what it was
asked: each comparison becomes a part of the answer. A check that does anything else with the numbers has no parts.
"""

import inspect
import sys
from unittest.mock import patch

from effattn_core.exercises import compare_number, exercise_of

STRANGE = 987654.0321  # added to the place of a number in a tuple
WRONG = "\0"  # what is said of the part that is asked about
MOST = 4  # numbers that an answer may have
DEFAULT = inspect.signature(compare_number).parameters["within"].default


def parts(name):
    """[{"before", "wanted", "mistakes", "within"}] of the numbers that exercise `name` compares; None if it does more.

    before: what a sentence about this number begins with; mistakes: [(number, sentence)].
    Raises ValueError for a name that is no exercise.
    """
    check = exercise_of(name).check
    for size in range(1, MOST + 1):
        numbers = tuple(STRANGE + place for place in range(size))
        found = _parts(check, numbers if size > 1 else numbers[0])
        if found is not None:
            return found
    return None


def _parts(check, answer):
    """The parts of an answer of this many numbers: one after the other is found wrong, until none is."""
    numbers, found = answer if isinstance(answer, tuple) else (answer,), []
    while len(found) <= len(numbers):
        asked = []

        def compare(given, wanted, mistakes=(), within=DEFAULT, asked=asked):
            asked.append({"given": given, "wanted": wanted, "mistakes": list(mistakes), "within": within})
            return WRONG if len(asked) > len(found) else None

        with patch.object(sys.modules[check.__module__], "compare_number", compare, create=True):
            try:
                said = check(answer)
            except Exception:  # it computes with the answer
                return None
        if said is None:
            whole = [part.pop("given") for part in found] == list(numbers)
            return found if whole else None
        if len(asked) != len(found) + 1 or not said.endswith(WRONG) or said.count(WRONG) > 1:
            return None
        found.append(asked[-1] | {"before": said.removesuffix(WRONG)})
    return None


def stored(name):
    """The parts of exercise `name` in what JSON has, or None."""
    found = parts(name)
    return found and [
        part | {"wanted": float(part["wanted"]), "mistakes": [(float(each), text) for each, text in part["mistakes"]]}
        for part in found
    ]
