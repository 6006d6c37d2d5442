"""The driver of masks, names and missing labels runs dry, and what it recorded is whole."""

import json

from support.house import driver, never

from effattn_core.discrete import margins, pairs
from effattn_core.recordings import measured

RUN = "discrete/factors-cpu"


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("discrete/run_factors")
    dry = dict(
        seeds=(0,), trials=(20,), steps=2, tuning=2, models=("separate", "joint"), groups=(1, 1), name_steps=1,
        losses=("BCE", "SAT"), missing=(0.4,), label_steps=2, strengths=(0.5,), graphs=1, settling=2,
        store=tmp_path / "store",
    )  # fmt: skip
    run.main(tmp_path, **dry)
    (path,) = tmp_path.glob("*.json")
    rows = json.loads(path.read_text())["rows"]
    assert {row["what"] for row in rows} == {"mask", "areas", "sheet", "margin", "crossing", "loops", "link"}
    assert {row["model"] for row in rows if row["what"] == "link"} == {"separate", "joint"}
    assert len([row for row in rows if row["what"] == "mask"]) == 7 * 2 + 1
    for name in ("voxel_rows", "name_rows", "label_rows", "crossing_rows", "loop_rows"):
        monkeypatch.setattr(run, name, never)
    run.main(tmp_path, **dry)
    assert json.loads(path.read_text())["rows"] == rows


def test_the_recorded_rows_are_whole():
    run = driver("discrete/run_factors")
    marginal = {(row["loss"], row["missing"], row["seed"]) for row in measured(RUN, what="margin")}
    assert marginal == {(loss, each, seed) for loss in pairs.ARMS for each in run.MISSING for seed in run.SEEDS}
    models = {(row["model"], row["seed"]) for row in measured(RUN, what="link")}
    assert models == {(model, seed) for model in run.MODELS for seed in run.SEEDS}
    assert {(row["trials"], row["seed"]) for row in measured(RUN, what="mask")} == {
        (trials, seed) for trials in run.TRIALS for seed in run.SEEDS
    }
    for row in measured(RUN, what="mask"):
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["retrieval"] <= 1
        # a mask of 1.2 times the region's size cannot overlap it by more
        assert "learned" not in row["voxels"] or row["overlap"] <= 1 / 1.2 + 0.01
    for row in measured(RUN, what="crossing"):
        assert row["limit"] == round(margins.breakdown(row["loss"]), 4)
