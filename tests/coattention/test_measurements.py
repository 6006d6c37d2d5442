"""What was recorded of coattention is whole, and its drivers run dry and go on where they stopped."""

import itertools
import json

import pytest
import torch
from support.house import driver, never

from effattn_core.coattention import aspects, canvases, facts, languages, pooling, sentences, trees, votes
from effattn_core.recordings import measured

TRAINED, SHOWN, GRAPHS = (f"coattention/{name}-cpu" for name in ("training", "shown", "graphs"))
SEEDS = [0, 1, 2]


def rows_of(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())["rows"]


def test_a_dry_run_of_what_is_trained_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("coattention/run")
    monkeypatch.setattr(canvases, "ARMS", ("grid only", "dual"))
    monkeypatch.setattr(facts, "ARMS", ("visual only", "sequential"))
    monkeypatch.setattr(run, "POOLED", (("sum", True), ("mean", False)))
    dry = dict(seeds=(0,), noises=(0.2,), shown=(4,), steps=2, store=tmp_path / "store")
    run.main(tmp_path, **dry)
    rows = rows_of(tmp_path)
    assert [row["what"] for row in rows] == ["aspects"] * 4 + ["facts"] * 2 + ["fusion"] * 2 + ["pooling"] * 2
    assert all(row["seed"] == 0 for row in rows) and {row["arm"] for row in rows[:4]} == set(aspects.ARMS)
    shares = [row[name] for row in rows for name in ("accuracy", "digit", "texture", "rank") if name in row]
    assert len(shares) == 8 and all(0 <= each <= 1 for each in shares)
    assert all(row["error"] > 0 and -1 <= row["cosine"] <= 1 for row in rows[:4])
    for name in ("fusion", "of_facts", "pooling", "of_aspects"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert rows_of(tmp_path) == rows


def test_a_dry_run_of_what_is_shown_records_a_user(tmp_path):
    driver("coattention/run_shown").main(tmp_path, sentence=False, steps=2, shown=(4,))
    rows = rows_of(tmp_path)
    assert [(row["what"], row["shown"], row["graph"]) for row in rows] == [("aspects", 4, False), ("aspects", 4, True)]
    assert all(sum(row[name]) == pytest.approx(1, abs=0.01) for row in rows for name in ("weight", "truth"))


def test_a_dry_run_over_graphs_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("coattention/run_graphs")
    monkeypatch.setattr(run, "ERRORS", (0.1,))
    monkeypatch.setattr(run, "DEPTHS", (2,))
    monkeypatch.setattr(run, "WIDTHS", (3.0,))
    monkeypatch.setattr(run, "DECAYS", ("global", 3))
    dry = dict(seeds=(0,), questions=20, plays=4, sliced=1, held=2, sentences=8, steps=2, shares=(None, 0.5), least=10,
               store=tmp_path / "store")  # fmt: skip
    run.main(tmp_path, **dry)
    rows = rows_of(tmp_path)
    kinds = [name for name, _ in itertools.groupby(row["mechanism"] for row in rows)]
    assert kinds == ["votes", "trees", "languages", "views", "slices", "gaps"]
    assert {row["arm"] for row in rows if row["mechanism"] == "trees"} == set(trees.COLUMNS)
    assert [row["share"] for row in rows if row["mechanism"] == "languages"] == [None, 0.5]
    for name in ("votes_rows", "trees_rows", "languages_rows", "views_rows", "slices_rows", "gaps_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert rows_of(tmp_path) == rows


def seeds_of(run=TRAINED, **wanted):
    return sorted(row["seed"] for row in measured(run, **wanted))


def test_the_recorded_trainings_are_whole_and_lie_where_they_must():
    run = driver("coattention/run")
    assert all(seeds_of(what="fusion", arm=arm) == SEEDS for arm in canvases.ARMS)
    for arm, noise in itertools.product(facts.ARMS, run.NOISES):
        assert seeds_of(what="facts", arm=arm, noise=noise) == SEEDS
    assert all(seeds_of(what="pooling", arm=arm, causal=causal) == SEEDS for arm, causal in run.POOLED)
    assert {row["arm"] for row in measured(TRAINED, what="pooling")} == set(sentences.POOLS)
    for arm, shown in itertools.product(aspects.ARMS, run.SHOWN):
        assert seeds_of(what="aspects", arm=arm, shown=shown) == SEEDS
    # without the picture's noise nothing but the picture can fail: facts alone are right where none is replaced
    assert all(row["accuracy"] == 1 for row in measured(TRAINED, what="facts", arm="semantic only", noise=0.0))
    looked = {row["accuracy"] for row in measured(TRAINED, what="facts", arm="visual only", seed=0)}
    assert len(looked) == 1  # who does not read facts cannot hear of their noise
    assert all(row["rank"] > 1.5 * sentences.chance() for row in measured(TRAINED, what="pooling"))
    for row in measured(TRAINED, what="aspects", arm="guided + graph", shown=13):  # all is shown: nothing to fill
        (other,) = measured(TRAINED, what="aspects", arm="guided", shown=13, seed=row["seed"])
        assert row["error"] == other["error"]


def test_what_is_shown_is_whole_and_its_rows_are_shares():
    for causal in (True, False):
        (row,) = measured(SHOWN, what="columns", causal=causal)
        weight = torch.tensor(row["weight"])
        assert weight.shape == (len(row["tokens"]),) * 2
        torch.testing.assert_close(weight.sum(1), torch.ones(len(weight)), atol=2e-3, rtol=0)
        assert bool(weight.triu(1).any()) != causal
        assert pooling.column_weights(weight).sum().item() == pytest.approx(1, abs=1e-5)
    for shown, graph in itertools.product((2, 4, 8, 13), (False, True)):
        (row,) = measured(SHOWN, what="aspects", shown=shown, graph=graph)
        truth = aspects.tasting(shown, 0).preference[0].tolist()
        assert row["truth"] == pytest.approx(truth, abs=6e-4) and sum(row["weight"]) == pytest.approx(1, abs=0.01)


def test_the_recorded_rows_over_graphs_are_whole():
    run = driver("coattention/run_graphs")
    for arm in votes.methods(votes.crowd(0, 5), run.WIDTHS):
        assert seeds_of(GRAPHS, mechanism="votes", arm=arm) == SEEDS
    for arm, error, depth in itertools.product(trees.COLUMNS, run.ERRORS, run.DEPTHS):
        assert seeds_of(GRAPHS, mechanism="trees", arm=arm, error=error, depth=depth) == SEEDS
    for share in run.SHARES:
        assert seeds_of(GRAPHS, mechanism="languages", share=share) == SEEDS
    assert all(
        set(row["score"]) == {f"{one + 1} → {other + 1}" for one, other in languages.PAIRS}
        for row in measured(GRAPHS, mechanism="languages")
    )
    found = {(row["decay"], row["hops"]) for row in measured(GRAPHS, mechanism="slices")}
    assert found == {(str(decay), hops) for decay in run.DECAYS for hops in run.HOPS}
    (row,) = measured(GRAPHS, mechanism="gaps")
    assert len(row["slopes"]) == len(row["masses"]) and all(0 < each <= 1 for each in row["masses"])
