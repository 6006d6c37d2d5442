"""What was recorded of discrete is whole, and its drivers run dry."""

import json

import pytest
from support.house import driver, never

from effattn_core.discrete.tables import NAMES
from effattn_core.recordings import measured

RUN = "discrete/training-cpu"


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("discrete/run")
    arms = ("grafted LAF", "straight-through", "soft, then cut: LAF")
    dry = dict(
        names=("tic-tac-toe", "wine"), arms=arms, seeds=(0,), steps=4, epochs=1, layers=(1, 2), shares=(0.0, 0.5),
        shared_epochs=1, store=tmp_path / "store",
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    tables = {(row["table"], row["arm"]) for row in rows if row["what"] == "table"}
    plain = "tree", "tree of 10 leaves", "logistic regression"
    assert tables == {(name, arm) for name in dry["names"] for arm in (*arms, *plain)}
    assert {(row["layers"], row["estimator"]) for row in rows if row["what"] == "depth"} == {
        (number, estimator) for number in (1, 2) for estimator in ("grafted", "single")
    }
    assert [row["share"] for row in rows if row["what"] == "random"] == [0.0, 0.5]
    (still, helped) = [row for row in rows if row["what"] == "decay"]
    assert still["literals_in"] == 600 and still["moved"] < 1e-6 < helped["moved"]  # as in the recorded run
    (boards,) = [row for row in rows if row["what"] == "boards"]
    assert len(boards["weights"]) == 27 and len(boards["votes"]) == 128
    for name in ("net_rows", "plain_rows", "board_rows", "depth_rows", "random_rows", "decay_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_tables_are_whole(name):
    run = driver("discrete/run")
    rows = measured(RUN, what="table", table=name)
    found = {(row["arm"], row["seed"]) for row in rows}
    arms = (*run.ARMS, "tree", "tree of 10 leaves", "logistic regression")
    assert found == {(arm, seed) for arm in arms for seed in run.SEEDS} and len(rows) == len(found)
    assert all(0 <= row["test"] <= 1 and 0 <= row.get("soft", 0) <= 1 for row in rows)


def test_the_other_recorded_rows_are_whole_and_lie_where_they_must_anywhere():
    run = driver("discrete/run")
    boards = measured(RUN, what="boards")
    assert [row["seed"] for row in boards] == list(run.SEEDS) and all(
        row["rules"] == len(row["read"]) for row in boards
    )
    assert all(0 <= row["lines"] <= 8 for row in boards) and "weights" in boards[0]
    depth = {(row["layers"], row["estimator"], row["seed"]) for row in measured(RUN, what="depth")}
    assert len(depth) == 3 * 2 * len(run.SEEDS)
    random = {(row["share"], row["seed"]) for row in measured(RUN, what="random")}
    assert random == {(share, seed) for share in run.SHARES for seed in run.SEEDS}
    decay = measured(RUN, what="decay")
    assert len(decay) == 2 * len(run.SEEDS)
    for row in decay:  # without a penalty the product's slopes at 600 inputs are below what moves a weight
        assert (row["moved"] > 0.1) == (row["penalty"] > 0), row
