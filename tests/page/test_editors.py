"""The page about the editors: its tables hold what there is, and its words what the recording says."""

import json
import re

import pytest
from _page import host, language
from _page.absent import ABSENT
from lab_equality import LAUNCHES, solutions
from support.house import ROOT

from figures import editors

PAGE = ROOT / "book" / "8-whole" / "editors.md"


def stored():
    """All that the stored page shows, as text."""
    cells = json.loads(PAGE.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join("".join(each.get("data", {}).get("text/plain", "")) for each in outputs)


def test_every_kernel_and_every_name_is_on_the_stored_page():
    text = stored()
    for name in {*solutions(), *LAUNCHES, *language.__all__, *host.__all__, *ABSENT}:
        assert f"`{name}`" in text, f"{name}: make notebooks CHAPTER=editors"
    assert all(why in text for why in ABSENT.values())


def test_the_numbers_of_the_page_are_those_of_its_rows(monkeypatch):
    rows = [
        {"what": "solution", "name": "a.b", "page": "a", "calls": 3, "apart": 0.0, "triton": 1.0, "here": 0.5},
        {"what": "shown", "name": "a.c", "page": "a", "calls": 2, "apart": 2.0, "triton": 1.0, "here": 1.0},
        {"what": "shown", "name": "a.d", "page": "a", "calls": 1, "apart": 7.5, "triton": 9.0, "here": 9.5},
    ]
    monkeypatch.setattr(editors, "measured", lambda recording: rows)
    assert editors.equality() == (3, 6, 1, 2, [rows[2]], 1)
    table = str(editors.equality_table())
    assert "All 3 kernels" in table and "`a.b` (solution)" in table and "`a.c` (solution)" not in table


def test_the_page_is_short_and_says_how_to_serve():
    text = re.sub(r"```\{code-cell\}.*?```", "", PAGE.read_text(encoding="utf-8").split("---\n", 2)[2], flags=re.S)
    assert len(text.split()) <= 900
    assert "`make serve`" in text and "`python -m http.server`" in text


def test_what_the_first_run_fetches_is_thirteen_megabytes():
    """As the page, the how-to and the editors say."""
    described = ROOT / "book" / "_static" / "vendor" / "lab" / "lab.json"
    if not described.exists():
        pytest.skip("kernels do not run on the pages here: node was missing when the book was built")
    assert 12.5e6 < sum(json.loads(described.read_text(encoding="utf-8"))["bytes"].values()) < 13.7e6
