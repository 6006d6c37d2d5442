"""The drivers of routing run dry, and go on where they stopped; compiled beside a peer; a layer copied into experts."""

import json
from types import SimpleNamespace

import pytest
import torch
from support.house import driver

from effattn_core import pretrained
from effattn_core.model import build, configuration
from effattn_core.recordings import measured
from effattn_core.routing import CAUSAL, ROUTERS
from kernels import inspect


def test_a_dry_bench_times_every_solver_and_certifies_what_it_finds(tmp_path):
    bench = driver("routing/bench")
    bench.main(tmp_path, sizes=((64, 8),), skews=(1.0,), layers=((4, 2, 16),), tokens=(1, 9), width=8, repeats=3)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert all(row["lower_quartile"] <= row["median"] <= row["upper_quartile"] for row in rows)
    solvers = {row["name"]: row for row in rows if row["what"] == "solver"}
    assert list(solvers) == [
        "top-k", "quantile, 5 rounds, not rounded", "quantile, 5 rounds", "middle, 20 rounds", "Sinkhorn, 50 rounds",
        "linear program", "MaxScore, released",
    ]  # fmt: skip
    for name, row in solvers.items():
        assert row["worth"] <= 1 + 1e-9 or name in ("top-k", "quantile, 5 rounds, not rounded")
        assert row["gap"] is None or row["gap"] >= 1 - row["worth"] - 1e-9
        assert row["ratio"] == row["median"] / solvers["top-k"]["median"]
    layers = [row for row in rows if row["what"] == "layer"]
    assert len(layers) == 2 * 5 and {row["name"] for row in layers} >= {bench.OURS, bench.GROUPED, bench.DENSE}


def test_a_form_of_the_layer_that_is_wrong_is_not_timed(tmp_path, monkeypatch):
    bench = driver("routing/bench")
    monkeypatch.setattr(bench, "TRAINED", 9)
    right = bench.grouped
    monkeypatch.setattr(bench, "grouped", lambda *given: 1.001 * right(*given))
    with pytest.raises(AssertionError, match="PyTorch grouped_mm: its output is off by 0.001"):
        bench.main(tmp_path, sizes=(), layers=((4, 2, 16),), tokens=(9,), width=8, repeats=3)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(bench, "grouped", lambda hidden, *rest: right(hidden.detach() + 0 * hidden, *rest))
    with pytest.raises(AssertionError, match="PyTorch grouped_mm: its gradient of the tokens is off by"):
        bench.main(tmp_path, sizes=(), layers=((4, 2, 16),), tokens=(9,), width=8, repeats=3)


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


def test_a_layer_copied_into_experts_is_that_layer_and_is_trained_alone(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = build(configuration("tiny", 128, context=33)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    kept = {name: weight.clone() for name, weight in model.state_dict().items()}
    letters = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=list(text.encode())))
    monkeypatch.setattr(pretrained, "load", lambda *given, **more: (model, letters))
    path = tmp_path / "found.json"
    routers = ("dense", "top_k", "past_prices", "prices", "expert_choice")
    driver("routing/run_smollm2").main(
        routers=routers, seeds=(0,), steps=3, length=32, held_out=4, layer=1, folder=tmp_path / "store", target=path,
    )  # fmt: skip
    rows = json.loads(path.read_text())["rows"]
    identity = {row["router"]: row for row in rows if row["what"] == "identity"}
    for router, row in identity.items():
        assert row["decoding_off"] < 1e-5 * row["dense"], router
        if router != "expert_choice":  # which may leave a token without an expert, and is no copy then
            assert row["off"] < 1e-5 * row["dense"], router
    (frozen,) = (row["loss"] for row in rows if row["what"] == "frozen")
    trained = {row["router"]: row for row in rows if row["what"] == "upcycled"}
    assert tuple(trained) == routers and tuple(identity) == routers[1:]
    for router, row in trained.items():
        assert row["loss"] != frozen and (row["loss"] == row["trained"]) == (router not in ("prices", "expert_choice"))
        assert (row["violation"] is None) == (router == "dense") and len(row["curve"]) == 3
    assert all(torch.equal(weight, kept[name]) for name, weight in model.state_dict().items())


def report(kernel, part, registers=64):
    return inspect.Report(
        kernel=kernel, architecture=90, registers=registers, spills=0, shared_memory=1024, warps=4, stages=2,
        occupancy=0.5, limiter="registers", instructions={"matrix": 4, "asynchronous copy": 2},
        constants={"BLOCK_ROW": 16, "GATHERED": True, "PRECISION": "ieee"}, warp_group=4, part=part,
        tensor_bytes=4096 * 10,
    )  # fmt: skip


def test_without_the_peer_ours_are_compiled_again_and_its_rows_keep_their_date(tmp_path, monkeypatch, capsys):
    compiled = driver("routing/bench_compiled")
    monkeypatch.delenv("SCATTERMOE", raising=False)
    monkeypatch.setattr(inspect, "survey", lambda *settings, **more: {("bfloat16", 64): [report("ours", "forward")]})
    compiled.main(tmp_path)
    assert not list(tmp_path.iterdir()) and "SCATTERMOE names no checkout" in capsys.readouterr().out
    path = tmp_path / "compiled.json"
    theirs = dict(library=compiled.PEER, kernel="theirs")
    made = dict(date="2026-01-02", commit="abc", peer="scattermoe 123")
    path.write_text(json.dumps(dict(provenance=made, rows=[dict(library=compiled.OURS, kernel="old"), theirs])))
    for _ in range(2):  # the second time too: the date is that of the peer's rows, not of the run before
        compiled.main(tmp_path)
        stored = json.loads(path.read_text())
        assert [row["kernel"] for row in stored["rows"]] == ["ours", "ours", "theirs"]
        assert stored["provenance"]["peer_rows"] == "compiled on 2026-01-02 at commit abc"
    first = stored["rows"][0]
    assert first["bytes"] == 10 and first["sizes"] == {"BLOCK_ROW": 16, "GATHERED": True}


def test_a_checkout_is_asked_for_what_it_must_hold(tmp_path, monkeypatch):
    peers = driver("routing/peers")
    monkeypatch.setenv("SCATTERMOE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="in which there is no scattermoe/parallel_experts.py"):
        peers.checkout()
    (tmp_path / "scattermoe").mkdir()
    (tmp_path / "scattermoe" / "parallel_experts.py").touch()
    assert peers.checkout() == str(tmp_path)


def test_no_recorded_kernel_of_ours_spills_or_takes_every_register_that_a_thread_can_have():
    rows = measured("routing/compiled")
    ours, theirs = ([row for row in rows if row["library"] == name] for name in ("this book", "scattermoe"))
    cases = {(row["part"], row["dtype"], row["architecture"]) for row in ours}
    assert cases == {(row["part"], row["dtype"], row["architecture"]) for row in theirs} and len(cases) == 3 * 2 * 2
    for row in ours:
        assert row["spills"] == 0 and row["registers"] < 255, row
        if row["kernel"].startswith("grouped"):
            assert row["matrix"] > 0
            group = row["architecture"] == 90 and row["part"] != "decode"  # a tile of 16 rows is too few for four warps
            assert (row["warp_group_matrix"] > 0) == group, row


def test_the_recorded_upcycling_starts_from_the_dense_model():
    rows = measured("routing/smollm2-cpu")
    for row in measured("routing/smollm2-cpu", what="identity"):
        assert max(row["off"], row["decoding_off"]) < 1e-5 * row["dense"]
    (frozen,) = (row["loss"] for row in rows if row["what"] == "frozen")
    trained = measured("routing/smollm2-cpu", what="upcycled")
    first = {row["seed"]: {other["curve"][0] for other in trained if other["seed"] == row["seed"]} for row in trained}
    assert all(max(each) - min(each) < 1e-3 for each in first.values())
    assert len({row["router"] for row in trained}) == 4 and all(row["loss"] < frozen for row in trained)
