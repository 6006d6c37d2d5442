"""The recording of how far the page is from Triton's interpreter: what its driver makes, and what is stored."""

import json

import pytest
from lab_equality import LAUNCHES, solutions
from support.house import MEASUREMENTS, driver

from kernels import runtime

STORED = MEASUREMENTS / "page" / "equality-cpu.json"


@pytest.mark.skipif(runtime.mode != "interpreter", reason="what is compared is Triton's interpreter")
def test_a_dry_run_records_a_row_per_kernel(tmp_path):
    driver("page/run_equality").main(tmp_path, few=2)
    rows = json.loads((tmp_path / STORED.name).read_text())["rows"]
    assert [row["what"] for row in rows] == ["solution", "solution", "shown", "shown"]
    assert {row["name"] for row in rows} == {*sorted(solutions())[:2], *sorted(LAUNCHES)[:2]}
    assert all(row["calls"] > 0 and row["name"].startswith(row["page"]) for row in rows)
    stored = {row["name"]: row for row in json.loads(STORED.read_text())["rows"]}
    for row in rows:
        assert row["apart"] <= stored[row["name"]]["apart"] + 0.5, "run python book/measurements/page/run_equality.py"


def test_what_disagrees_or_is_compiled_is_not_recorded(tmp_path, monkeypatch):
    run = driver("page/run_equality")

    class Far:
        most = staticmethod(lambda: (float("inf"), 0.0, 0.0))

    with pytest.raises(ValueError, match="primer.one differs on the page"):
        run.row("shown", "primer.one", "primer", Far)
    monkeypatch.setattr(run.runtime, "mode", "gpu")
    with pytest.raises(SystemExit, match="TRITON_INTERPRET=1"):
        run.main(tmp_path)
    assert not list(tmp_path.iterdir())


def test_each_kernel_of_the_book_is_recorded():
    rows = json.loads(STORED.read_text())["rows"]
    assert {row["name"] for row in rows if row["what"] == "solution"} == {*solutions()}
    assert {row["name"] for row in rows if row["what"] == "shown"} == {*LAUNCHES}
    assert all(row["apart"] <= max(2, 2 * row["triton"]) for row in rows)  # as near as Triton is to the exact result
