"""Reading a recorded measurement. Needs neither a model nor PyTorch, so that every topic's claims may rest on one."""

import json
from pathlib import Path

MEASUREMENTS = Path(__file__).resolve().parents[1] / "book" / "measurements"


def measured(name):
    """The rows of a recorded measurement of this repository, by its topic and file: "retention/cpu".

    Raises FileNotFoundError, with the command that makes it, where there is none.
    """
    path = MEASUREMENTS / f"{name}.json"
    if not MEASUREMENTS.exists():
        raise FileNotFoundError(f"{name}.json lies in the book's repository, not in the installed package: clone it.")
    if not path.exists():
        raise FileNotFoundError(f"{name}.json is not recorded yet: run make bench or make runs.")
    return json.loads(path.read_text(encoding="utf-8"))["rows"]
