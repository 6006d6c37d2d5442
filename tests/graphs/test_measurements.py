"""What was recorded of graphs is whole, and its driver runs dry and goes on where it stopped."""

import json
from statistics import fmean

import pytest
import torch
from support.house import driver, never

from effattn_core.graphs.worlds import world
from effattn_core.recordings import measured

RUN = "graphs/training-cpu"


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("graphs/run")
    methods = (run.PLAIN, "SEvo, β 0.9", "iterated", "permuted graph", run.IN_EVERY_PASS)
    dry = dict(
        names=("davis",), methods=methods, tuned=(0, 1), judged=(5, 6, 7), rates=(0.03, 0.01), decays=(0.05,), steps=40,
        every=10, store=tmp_path / "store",
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert [row["nodes"] for row in rows if row["what"] == "graph"] == [32]
    tuning = [row for row in rows if row["what"] == "tuning"]
    judged = {row["method"]: row for row in rows if row["what"] == "judged"}
    assert set(judged) == {*methods, run.SMOOTHED_AFTER} and len(tuning) == 2 * len(judged)
    for method, row in judged.items():
        trials = [each for each in tuning if each["method"] == method]
        assert row["tuned"] == max(each["best"] for each in trials) and row["at"] % 10 == 0
        assert (row["rate"], row["at"]) in [(each["rate"], each["at"]) for each in trials]
        assert len(row["scores"]) == 3 and all(0 <= each <= 1 for each in row["scores"])
    assert len({tuple(row["scores"]) for row in judged.values()}) == len(judged)
    for name in ("tuning_rows", "judged_rows", "untrained_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


def test_the_rival_and_the_renamed_graph_step_otherwise_than_the_series():
    run = driver("graphs/run")
    adjacency, found = world("karate").adjacency, {}
    for name, (kind, settings) in run.METHODS.items():
        table = torch.nn.Parameter(torch.zeros(34, 2))
        more = dict(nodes=34) if kind == "elsewhere" else {}
        kind = run.elsewhere if kind == "elsewhere" else kind
        optimizer = kind(table, adjacency, lr=1.0, weight_decay=0.0, **more, **settings)
        table.grad = torch.eye(34)[:, :2].clone()
        optimizer.step()
        found[name] = tuple(table.detach().flatten().tolist())
    alike = ("SEvo, β 0.9", "uncorrected moments"), ("AdamW", "correction alone", run.IN_EVERY_PASS)
    for names in alike:  # at the first step nothing is to be corrected; in every pass the optimizer is plain
        assert all(found[each] == pytest.approx(found[names[0]], abs=1e-6) for each in names)
    assert len({tuple(round(each, 4) for each in table) for table in found.values()}) == len(found) - 3


def mean(name, method):
    (row,) = [row for row in measured(RUN, graph=name, method=method) if "scores" in row]
    return fmean(row["scores"])


@pytest.mark.parametrize("name", sorted({row["graph"] for row in measured(RUN)}))
def test_the_recorded_rows_are_whole_and_rates_stand_at_an_edge_where_the_page_says(name):
    run = driver("graphs/run")
    judged = {row["method"]: row for row in measured(RUN, what="judged", graph=name)}
    assert set(judged) == {*run.METHODS, run.SMOOTHED_AFTER}
    assert all(len(row["scores"]) == len(run.JUDGED) for row in judged.values())
    assert {row["method"] for row in measured(RUN, what="untrained", graph=name)} == {"walk", "popularity", "chance"}
    (row,) = measured(RUN, what="graph", graph=name)
    assert (row["nodes"], row["edges"]) == (world(name).nodes, world(name).edges.shape[1])
    edges = max(run.RATES), min(run.RATES)
    for method in ("AdamW", "SEvo, β 0.9"):
        assert (judged[method]["rate"] in edges) == (name != "les miserables"), method  # as the page says
