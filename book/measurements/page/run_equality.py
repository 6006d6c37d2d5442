"""How far the Triton of the pages is from Triton's interpreter, on the kernels of the chapters and of their exercises.

python book/measurements/page/run_equality.py      writes equality-cpu.json beside this file, in half a minute

A row per kernel. what: "solution" of an exercise, called on all its hidden cases, or "shown", called as its editor
calls it; name: of the exercise, or page.kernel; page: where it stands; calls: how many were compared; apart: the most
roundings between the two results; triton, here: the most between what Triton and the page give, and what the page would
give if nothing were rounded. A rounding is that of the largest number of a result, in the result's own type.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

from effattn_core import reproducible
from kernels import bench, runtime

FILE = "equality-cpu.json"


def row(what, name, page, both):
    apart, triton, here = both.most()
    if not apart < float("inf"):
        raise ValueError(f"{name} differs on the page in more than its roundings: tests/page says where.")
    numbers = {"apart": round(apart, 2), "triton": round(triton, 2), "here": round(here, 2)}
    return {"what": what, "name": name, "page": page, "calls": len(both.runs), **numbers}


def rows(few=None):
    """A row per kernel of the book, or of the first `few` of each kind. Raises ValueError where one disagrees."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "_ext"))
    from lab_equality import LAUNCHES, launched, shown, solutions, solved

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, cell in sorted(solutions().items())[:few]:
            with contextlib.redirect_stdout(sys.stderr):
                both, verdict = solved(name, Path(folder))
            if not verdict.passed:
                raise ValueError(f"the solution of {verdict}")
            found.append(row("solution", name, cell.page, both))
        for name in sorted(LAUNCHES)[:few]:
            found.append(row("shown", name, shown()[name].page, launched(name, Path(folder))))
    return found


def main(folder=None, few=None):
    """folder: where the file goes; few: so that a test can run it dry in seconds."""
    if runtime.mode != "interpreter":
        sys.exit("what is compared is Triton's interpreter: set TRITON_INTERPRET=1, where Triton is installed.")
    reproducible(0)
    made = bench.provenance("python book/measurements/page/run_equality.py", on="cpu")
    bench.write_measurement((folder or Path(__file__).parent) / FILE, made, rows(few))


if __name__ == "__main__":
    main()
