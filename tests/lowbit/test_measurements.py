"""What was recorded of low-bit states is whole, and its drivers run dry."""

import json
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch
from support.house import MEASUREMENTS, driver, never

from effattn_core import pretrained
from effattn_core.lowbit import claims, costs, training
from effattn_core.model import build, configuration
from effattn_core.recordings import measured

DRY = (("AdamW", 0.9, 3e-3), ("naive 2/2", 0.9, 3e-3))


def recorded(name):
    """Marks a test of a recording that may not be there yet."""
    there = (MEASUREMENTS / "lowbit" / f"{name}.json").exists()
    return pytest.mark.skipif(not there, reason=f"lowbit/{name}.json is not recorded yet")


def rows_of(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())["rows"]


def test_a_dry_run_records_its_rows_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run = driver("lowbit/run")
    dry = dict(seeds=(0,), steps=3, arms=DRY, later=(("SOLO 4/2", 0.8, 6e-3),), store=tmp_path / "store")
    run.main(tmp_path, **dry)
    rows = rows_of(tmp_path)
    texts = {row["name"]: row for row in rows if row["what"] == "text"}
    assert [row["bytes"] for row in texts.values()] == pytest.approx([8, 0.57, 0.86], abs=0.02)
    assert texts["AdamW"]["zero"] is None and 0 < texts["naive 2/2"]["zero"] <= 1
    assert texts["naive 2/2"]["move"] > 10 * texts["AdamW"]["move"]
    blocks = [row for row in rows if row["what"] == "block"]
    assert len(blocks) == len(run.SEEN) * run.BLOCKS and all(len(row["v"]) == len(row["m"]) == 128 for row in blocks)
    counted = [row for row in rows if row["what"] == "histogram"]
    assert {row["tensor"] for row in counted} == set(run.SEEN)
    monkeypatch.setattr(run, "text_rows", never)
    run.main(tmp_path, **dry)
    assert rows_of(tmp_path) == rows


def test_a_training_that_breaks_off_is_recorded_as_that(tmp_path, monkeypatch):
    run = driver("lowbit/run")

    def broken(model, batches, *, optimizer, **settings):
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        raise FloatingPointError

    monkeypatch.setattr(run, "train", broken)
    run.main(tmp_path, seeds=(0,), steps=2, arms=DRY[1:], later=(), store=tmp_path / "store")
    (row,) = rows_of(tmp_path)
    assert row["loss"] is None and row["broke"] == 1 and row["curve"] == []


def test_a_dry_run_of_smollm2_has_an_arm_per_process(tmp_path, monkeypatch):
    run = driver("lowbit/run_smollm2")

    def load(source, **settings):
        torch.manual_seed(0)
        tokenizer = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=[ord(each) % 50 for each in text]))
        return build(configuration("tiny", 50)).eval(), tokenizer

    commands = []

    def started(command, check):
        commands.append(command)
        run.run_arm(*command[3:])

    monkeypatch.setattr(pretrained, "load", load)
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=started))
    dry = dict(steps=2, batch=2, length=16, passages=10, folder=tmp_path / "store", target=tmp_path / "smollm2.json")
    run.main(arms=(("AdamW", 0.8), ("SOLO 2/2", 0.5)), **dry)
    rows = rows_of(tmp_path)
    assert [row["name"] for row in rows] == ["AdamW", "SOLO 2/2"] and len(commands) == 2
    assert rows[0]["before"] == rows[1]["before"] > rows[0]["after"] and len(rows[0]["curve"]) == 2
    for row in rows:
        assert 0 < row["loaded"] <= row["peak"] and row["step"][1] <= row["step"][0] <= row["step"][2]
    assert rows[0]["states"] == 8 * rows[0]["parameters"] > 10 * rows[1]["states"]
    run.main(arms=(("AdamW", 0.8), ("SOLO 2/2", 0.5)), **dry)
    assert len(commands) == 2 and rows_of(tmp_path) == rows


def test_held_out_windows_are_of_other_passages():
    run = driver("lowbit/run_smollm2")
    tokenizer = SimpleNamespace(encode=lambda text: SimpleNamespace(ids=[hash(text[:40]) % 9999] * len(text)))
    training_windows, held = run.texts(tokenizer, 8, passages=10)
    assert training_windows.shape == (32, 9) and held.shape == (2, 9)
    assert not set(training_windows.flatten().tolist()) & set(held.flatten().tolist())


def test_a_move_is_that_of_the_weight_that_moved_most_and_hooks_go():
    weights = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(0))]
    chosen = torch.optim.SGD(weights, lr=0.5)
    moves = training.Moves(chosen)
    weights[0].grad = torch.tensor([1.0, -3.0, 2.0])
    chosen.step()
    moves.close()
    chosen.step()
    assert moves.largest == [3.0]


def test_a_histogram_counts_every_value_once():
    values = torch.cat([torch.zeros(5), torch.logspace(-8, -2, 301)])
    found = training.histogram(values)
    assert found["zeros"] == 5 and sum(found["counts"]) == 301 and found["first"] in (-8.0, -8.25)
    assert training.histogram(torch.zeros(4)) == {"first": 0.0, "counts": [], "zeros": 4}
    with pytest.raises(ValueError, match="name must be one of AdamW, 8-bit"):
        training.optimizer_of("SOLO", torch.nn.Linear(2, 2), 0.9)


@recorded("training-cpu")
def test_the_recorded_trainings_are_whole_and_naive_states_fail_for_the_reason_that_is_told():
    seeds = set(claims.losses("AdamW", 0.9))
    for name, beta1 in (("AdamW", 0.5), ("8-bit", 0.9), ("SOLO 4/2", 0.8), ("SOLO 2/2", 0.5), ("naive 2/2", 0.9)):
        assert claims.losses(name, beta1).keys() == seeds
    for seed in seeds:
        (naive,) = measured("lowbit/training-cpu", what="text", name="naive 2/2", seed=seed)
        (whole,) = measured("lowbit/training-cpu", what="text", name="AdamW", beta1=0.9, seed=seed, rate=3e-3)
        assert naive["loss"] is None or naive["loss"] > whole["loss"] + 0.5
        assert naive["lost"] > 0.01 and naive["move"] > 1000 * whole["move"]
    (solo,) = measured("lowbit/training-cpu", what="text", name="SOLO 4/2", beta1=0.8, seed=0, rate=3e-3)
    assert costs.design("SOLO 4/2").bytes_per_parameter < solo["bytes"] < 0.9
    assert fmean(claims.differences("SOLO 4/2", 0.8)) < 0.2


@recorded("smollm2-cpu")
def test_smollm2_s_states_are_what_the_formula_says_and_its_process_holds_less():
    rows = {(row["name"], row["beta1"]): row for row in measured("lowbit/smollm2-cpu", what="smollm2")}
    for (name, _), row in rows.items():
        kept = costs.design(name if name != "AdamW" else "AdamW, float32")
        assert row["states"] == pytest.approx(kept.bytes_per_parameter * row["parameters"], rel=1e-3)
        assert row["after"] < row["before"]
    whole, few = rows["AdamW", 0.8], rows["SOLO 4/2", 0.8]
    spared = whole["states"] - few["states"]
    assert whole["resident"] - few["resident"] == pytest.approx(spared, rel=0.25)
