"""The drivers of routing run dry, and go on where they stopped. Nothing is recorded yet."""

import json

from support.house import driver

from effattn_core.routing import CAUSAL, ROUTERS


def test_a_dry_bench_times_every_solver_and_certifies_what_it_finds(tmp_path):
    driver("routing/bench").main(tmp_path, sizes=((64, 8),), skews=(1.0,), repeats=1)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["solver"] for row in rows} == {
        "linear program", "quantile, 5 rounds", "middle, 20 rounds", "MaxScore, released"
    }  # fmt: skip
    for row in rows:
        assert row["seconds"] > 0 and row["ratio"] <= 1 + 1e-9
        assert row["gap"] is None or row["gap"] >= 1 - row["ratio"] - 1e-9


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("routing/run")
    dry = dict(
        seeds=(0,), bit_steps=2, evaluated=8, steps=3, trials=2, names=("dense", "prices"), store=tmp_path / "store"
    )
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    leaks = {row["router"]: row["share"] for row in rows if row["what"] == "prefix"}
    assert set(leaks) == set(ROUTERS) and all((leaks[each] == 0) >= (each in CAUSAL) for each in leaks)
    assert {row["router"] for row in rows if row["what"] == "bits"} == set(run.BITS)
    assert [row["violation"] is None for row in rows if row["what"] == "text"] == [True, False]
    for name in ("leak_rows", "bit_rows", "text_rows"):
        monkeypatch.setattr(run, name, lambda *given: 1 / 0)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows
