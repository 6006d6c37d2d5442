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
        seeds=(0,), bit_steps=2, evaluated=8, steps=3, trials=2, names=("dense", "prices", "GShard, balancing loss"),
        skews=(2.0,), matrix=(64, 8), learnt=30, store=tmp_path / "store",
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    leaks = {row["router"]: row["share"] for row in rows if row["what"] == "prefix"}
    assert set(leaks) == set(ROUTERS) and all((leaks[each] == 0) >= (each in CAUSAL) for each in leaks)
    assert {row["router"] for row in rows if row["what"] == "bits"} == set(run.BITS)
    values = {row["router"]: row for row in rows if row["what"] == "value"}
    assert set(values) == {*ROUTERS, "prices, 5 rounds", "prices, 5 rounds, not rounded", "replicated"}
    for router, row in values.items():
        bounded = row["load"] <= 1 and row["missing"] >= 0 and not row.get("duplicates")
        assert row["ratio"] <= 1 + 1e-9 or not bounded or router == "expert_choice", router
        if row["gap"] is not None:
            assert row["gap"] >= 1 - row["ratio"] - 1e-9, router
    assert values["optimum"]["ratio"] == 1 and values["gshard"]["missing"] > 0.1 and values["prices"]["missing"] == 0
    assert values["replicated"]["ratio"] > 1 and values["replicated"]["duplicates"] > 0
    assert values["past_prices"]["load"] < values["bias"]["load"] < values["top_k"]["load"]
    dense, prices, gshard = (row for row in rows if row["what"] == "text")
    assert dense["violation"] is None and dense["decoding"] == dense["trained"]
    assert prices["after"] == prices["missing"] == prices["none"] == 0 < prices["violation"]
    assert 0 < gshard["none"] < gshard["missing"] and gshard["quiet"] > 0 and len(gshard["curve"]) == 3
    for name in ("prefix_rows", "bit_rows", "value_rows", "text_rows"):
        monkeypatch.setattr(run, name, lambda *given: 1 / 0)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows
