"""The editors on the pages, seen: how far their Triton is from Triton's interpreter, and what language they have."""

import importlib
import sys
from typing import NamedTuple

from effattn_core.recordings import MEASUREMENTS, measured
from figures.benchmarks import Folded
from figures.theme import table

RECORDING = "page/equality-cpu"
NEAR = 2  # roundings: what sums in another order come to
HEADINGS = {"kernel": "kernel", "calls": "calls", "apart": "page and Triton", "triton": "Triton and unrounded",
            "here": "page and unrounded"}  # fmt: skip


class Equality(NamedTuple):
    """kernels, calls: compared; same: kernels without any difference; near: those within NEAR roundings, these among
    them; far: rows of the others; closer: kernels whose result is nearer to the unrounded one on the page.
    """

    kernels: int
    calls: int
    same: int
    near: int
    far: list
    closer: int


def equality():
    """The recording, in numbers."""
    rows = measured(RECORDING)
    far = sorted((row for row in rows if row["apart"] > NEAR), key=lambda row: -row["apart"])
    return Equality(
        kernels=len(rows),
        calls=sum(row["calls"] for row in rows),
        same=sum(row["apart"] == 0 for row in rows),
        near=len(rows) - len(far),
        far=far,
        closer=sum(row["here"] < row["triton"] for row in rows),
    )


def equality_table():
    """A folded row per kernel: the calls compared, and the three distances, in roundings."""
    rows = []
    for row in measured(RECORDING):
        solution = " (solution)" if row["what"] == "solution" else ""
        rows.append(row | {"kernel": f"`{row['name']}`{solution}"})
    caption = "Each kernel, how many calls were compared, and the largest distance between two results, in roundings."
    return Folded(table(rows, caption=caption, columns=HEADINGS, cards=True), f"All {len(rows)} kernels, one by one")


def _page(name):
    """A module of the page's Triton, which lies beside the measurements in the book's repository."""
    if str(MEASUREMENTS.parent) not in sys.path:
        sys.path.append(str(MEASUREMENTS.parent))
    return importlib.import_module(f"_page.{name}")


def _listed(names):
    return ", ".join(f"`{name}`" for name in names)


def language_table():
    """What a kernel and its launcher can name: a row per module."""
    known = {*dir(_page("memory").Tensor), "shape", "dtype", "device"} - {"places"}
    members = sorted(name for name in known if not name.startswith("_"))
    rows = [
        {"of": "`tl`", "names": _listed(_page("language").__all__)},
        {"of": "`tl.math`", "names": _listed(_page("functions").__all__)},
        {"of": "`triton`", "names": _listed(_page("launch").__all__)},
        {"of": "`torch`", "names": _listed(_page("host").__all__)},
        {"of": "a tensor", "names": _listed(members)},
        {"of": "to import", "names": _listed(sorted(_page("source").ALLOWED - {"__future__"}))},
    ]
    return table(rows, caption="What the language of the page has.", columns={"of": "of", "names": "there is"})


def absent_table():
    """What of Triton's language is not there: a row per reason."""
    absent = _page("absent").ABSENT
    reasons = dict.fromkeys(absent.values())
    rows = [{"names": _listed(name for name in absent if absent[name] == why), "why": why} for why in reasons]
    caption = "What of `tl` is not there. A kernel that asks for it is told so, with the reason."
    return table(rows, caption=caption, columns={"why": "because", "names": "not there"})
