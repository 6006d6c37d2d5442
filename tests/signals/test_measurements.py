"""What was recorded of training signals is whole, and its drivers run dry and go on where they stopped."""

import json

from support.house import driver, never

from effattn_core.recordings import measured
from effattn_core.signals import programs, questions, tokens
from effattn_core.signals.claims.weights import above_table

RUN, WEIGHTS = "signals/training-cpu", "signals/weights-cpu"


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("signals/run")
    sizes = dict(synthetic=20, gold=10, unlabelled=20, without=3, tested=20)
    dry = dict(
        seeds=(0,), groundings=3, sizes=sizes, claims=(20, 20, 20), ties=20, few=(0, 2), long=2, steps=2, batch=4,
        store=tmp_path / "store",
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert len([row for row in rows if row["what"] == "grounding"]) == 2 * len(programs.SKELETONS)
    assert {row["arm"] for row in rows if row["what"] == "round"} == set(questions.FILTERS)
    assert {row["arm"] for row in rows if row["what"] == "tokens"} == set(tokens.ARMS)
    assert {*run.SELF_TRAINED, "verdicts given"} < {row["arm"] for row in rows if row["what"] == "claims"}
    assert len([row for row in rows if row["what"] == "shown"]) == 16
    for name in ("grounding_rows", "question_rows", "claim_rows", "tie_rows", "token_rows", "shown_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


def test_the_recorded_rows_are_whole():
    run = driver("signals/run")
    for arm in (*questions.FILTERS, "synthetic only", "gold only", "synthetic and gold", "all labelled"):
        assert [row["seed"] for row in measured(RUN, what="questions", arm=arm)] == list(run.SEEDS)
    for arm in tokens.ARMS:
        found = measured(RUN, what="tokens", arm=arm)
        assert {row["few"] for row in found} == set(run.FEW) and len(found) == 2 * len(run.SEEDS) * (len(run.FEW) + 1)
    for row in measured(RUN):
        for name in ("accuracy", "share", "purity", "coverage", "area"):
            assert 0 <= row.get(name, 0) <= 1, row
    for arm in run.SELF_TRAINED:
        assert len(measured(RUN, what="claims", arm=arm)) == len(run.SEEDS)


def test_a_dry_run_of_weights_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("signals/run_weights")
    dry = dict(
        seeds=(0,), store=tmp_path / "store",
        settings={
            **{name: dict(steps=2) for name in ("names", "digits-next", "digits-any", "clusters")},
            "style": dict(strengths=(1.5,), rounds=1, texts=10, held=5),
        },
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["data"] for row in rows if row["what"] == "weights"} == {"names", "digits, next", "digits, any"}
    assert [row["arm"] for row in rows if row.get("data") == "names" and "arm" in row] == list(run.RULES)
    assert {row["what"] for row in rows} == {"weights", "guesses", "slots", "clusters", "style", "sample"}
    for name in run.PARTS:
        monkeypatch.setitem(run.PARTS, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


def test_the_recorded_rows_of_weights_are_whole():
    run = driver("signals/run_weights")
    rows, seeds = measured(WEIGHTS), list(run.SEEDS)
    for data in ("names", "digits, next", "digits, any"):
        for arm in run.RULES:
            assert [row["seed"] for row in measured(WEIGHTS, what="weights", data=data, arm=arm)] == seeds
        assert [row["seed"] for row in measured(WEIGHTS, what="guesses", data=data)] == seeds
    arms = {
        "slots": ("labelled only", "hard, one slot", "below .8 dropped", "soft, one slot", "soft, one slot, anchored",
                  "soft, three slots", "soft, five slots", "true labels", "counts"),
        "clusters": ("k-means, tf-idf", "k-means, vectors", "attention, untrained", "attention", "adversary, ε .3",
                     "adversary, ε 1", "random move, ε 1"),
        "style": ("copy", "back-translated", "back-translated, weighted", "judge on real text"),
    }  # fmt: skip
    for what, names in arms.items():
        for arm in names:
            assert [row["seed"] for row in measured(WEIGHTS, what=what, arm=arm)] == seeds
        assert {row["arm"] for row in rows if row["what"] == what} == {*names, *(["table"] * (what == "style"))}
    assert {row["strength"] for row in measured(WEIGHTS, what="style", arm="table")} == set(run.STRENGTHS)
    for row in rows:
        for name in ("accuracy", "auc", "right", "chance", "prior", "recall", "confidence", "nmi", "judge", "kept"):
            assert 0 <= (row.get(name) or 0) <= 1, row
    assert all(len(row["text"].split()) == len(row["output"].split()) for row in measured(WEIGHTS, what="sample"))


def test_style_is_compared_where_as_many_words_are_kept():
    """A table lies on its own curve; back-translation, below the table it starts from, is above the curve."""
    assert above_table("table") == [0.0] * 3
    for arm in ("back-translated", "back-translated, weighted"):
        rows, tables = (measured(WEIGHTS, what="style", arm=each, strength=1.5) for each in (arm, "table"))
        for row, start, above in zip(rows, tables, above_table(arm), strict=True):
            assert row["judge"] < start["judge"] and row["kept"] > start["kept"] and above > 0
