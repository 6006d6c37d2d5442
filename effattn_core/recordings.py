"""Reading a recorded measurement. Needs neither a model nor PyTorch, so that every topic's claims may rest on one."""

import functools
import json
from pathlib import Path

MEASUREMENTS = Path(__file__).resolve().parents[1] / "book" / "measurements"


def measured(recording, /, **wanted):
    """The rows of a recorded measurement of this repository, by its topic and file: "retention/cpu".

    wanted: fields and their values that a row must have to be among them: what="text", rule="random". The rows are read
    once and shared: leave them as they are. Raises FileNotFoundError, with the command that makes it, where there is
    none.
    """
    return [row for row in _rows(recording) if all(row.get(field) == value for field, value in wanted.items())]


@functools.cache
def _rows(recording):
    path = MEASUREMENTS / f"{recording}.json"
    if not MEASUREMENTS.exists():
        raise FileNotFoundError(
            f"{recording}.json lies in the book's repository, not in the installed package: clone it."
        )
    if not path.exists():
        raise FileNotFoundError(f"{recording}.json is not recorded yet: run make bench or make runs.")
    return json.loads(path.read_text(encoding="utf-8"))["rows"]
