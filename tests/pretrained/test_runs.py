"""The recorded runs on a trained model, tried on a small one: whole, and true where the truth is known."""

import importlib.util
import json

import pytest
import torch
import transformers
from support.house import ROOT

from effattn_core import pretrained

from . import checkpoints


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A function: the rows that a topic's driver writes for one short passage."""
    source = checkpoints.write_reader(tmp_path / "reader")

    def run(topic, **sizes):
        path = ROOT / "book" / "measurements" / topic / "run_smollm2.py"
        spec = importlib.util.spec_from_file_location(f"{topic}_smollm2", path)
        driver = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(driver)
        target = tmp_path / f"{topic}.json"
        driver.main(source, passages=1, **sizes, folder=tmp_path / topic, target=target)
        return json.loads(target.read_text())["rows"]

    return run


def test_windows_read_alike_until_they_lose_a_key(record):
    rows = record("attention", length=2048)
    losses = {row["name"]: row["losses"] for row in rows if row["what"] == "window"}
    assert len(losses) == 4 and all(len(each) == 16 for each in losses.values())
    assert len({tuple(each[:2]) for each in losses.values()}) == 1  # 256 tokens fit every window
    assert len({tuple(each) for each in losses.values()}) == 4
    sinks = [row for row in rows if row["what"] == "sink"]
    assert [row["layer"] for row in sinks] == [0, 1]
    assert all(0 <= share <= 1 for row in sinks for share in row["first"] + row["near"]) and len(sinks[0]["first"]) == 4


def test_attention_within_a_distance_grows_to_all_of_it(record):
    rows = record("retention", length=2048)
    assert [row["layer"] for row in rows] == [0, 1]
    for row in rows:
        for shares in row["shares"]:
            assert len(shares) == len(row["distances"]) and shares == sorted(shares) and 0 < shares[-1] <= 1


def test_a_layer_is_like_itself_and_lending_changes_what_is_read(record):
    rows = record("yoco", length=96)
    for row in rows[:2]:
        assert row["keys"][row["layer"]] == row["values"][row["layer"]] == 1 and 0 <= min(row["keys"]) < 1
    losses = {row["layer"]: row["loss"] for row in rows[2:]}
    assert losses.keys() == {None, 1, "every second"}
    assert losses[1] == losses["every second"] != losses[None]  # of two layers, one lends


def test_sparse_ways_differ_from_dense_and_a_text_shorter_than_the_period_is_never_rectified(record):
    rows = record("rectified", lengths=(256,), steps=8, drift=(128, 40), needles=(200,), numbers=1)
    frontier = [row for row in rows if row["what"] == "frontier"]
    assert frontier[0] == {**frontier[0], "name": "dense", "share": 1.0, "kl": 0.0}
    assert {row["name"] for row in frontier} == {"dense", "ReSA", "Quest", "mean keys", "StreamingLLM"}
    assert all(0 < row["share"] < 1 and row["kl"] > 0 for row in frontier[1:])
    drift = {row["period"]: row["kl"] for row in rows if row["what"] == "drift"}
    assert drift.keys() == {8, 32, 128, 0} and all(len(each) == 2 for each in drift.values())
    assert drift[128] == drift[0] != drift[8]  # forty tokens are never rectified by either
    needles = [row for row in rows if row["what"] == "needle"]
    assert len(needles) == 13 and all(row["found"] <= row["asked"] == 4 for row in needles)


def test_lists_of_their_own_cover_most_and_a_list_of_everything_changes_nothing(record):
    rows = record("indexing", length=96, lessons=1, steps=3, counts=(8, 96), agreed=8)
    agreement = [row for row in rows if row["what"] == "agreement"]
    same = [row["same"] for row in agreement]
    assert [row["layer"] for row in agreement] == [0, 1] and same[0][0] == same[1][1] == 1
    assert 0 <= same[0][1] == same[1][0] < 1
    found = {(row["layers"], row["count"], row["name"]): row for row in rows if row["what"] == "coverage"}
    assert len(found) == 2 * 7 + 2 * 8  # the taught indexer serves the upper half alone
    for kind in ("covered", "beyond"):
        assert all(
            share == pytest.approx(1, abs=1e-3) for key, row in found.items() if key[1] == 96 for share in row[kind]
        )
    mean = {name: sum(row["covered"]) for (layers, count, name), row in found.items() if (layers, count) == ("all", 8)}
    assert mean["per head"] >= mean["per layer"] >= mean["shared oracle"] > mean["random"]
    losses = {(row["count"], row["name"]): row["loss"] for row in rows if row["what"] == "loss"}
    assert all(
        loss == pytest.approx(losses[None, "dense"], abs=2e-4) for (count, _), loss in losses.items() if count != 8
    )
    assert losses[8, "per layer"] == losses[8, "shared oracle"] != losses[None, "dense"]  # one layer is the upper half
    (distance,) = (row for row in rows if row["what"] == "distance")
    assert distance["indexer"] > 0 == pytest.approx(distance["layers"], abs=1e-6)


def test_masks_keep_what_they_say_and_a_mask_of_everything_is_dense(record):
    rows = record(
        "channels", prompt=120, scored=16, lesson=100, lessons=1, first=3, second=1, needle=110, numbers=1
    )  # fmt: skip
    masks = {(row["rule"], row["pruned"]): row for row in rows if row["what"] == "mask"}
    assert len(masks) == 1 + 3 * 6 and masks["dense", 0.0]["kept"] == 1
    for row in masks.values():
        counts = torch.tensor(row["counts"])
        assert counts.shape == (2, 2) and (counts % 2 == 0).all() and counts.float().mean() / 8 == row["kept"]
        assert row["empty"] == (counts == 0).float().mean()
    for share in (0.3, 0.5, 0.7):
        slow, fast = (masks[f"{kind} pairs", share]["eighths"] for kind in ("slowest", "fastest"))
        assert slow == fast[::-1] == sorted(slow)
    stages = {row["stage"]: row for row in rows if row["what"] == "importance"}
    assert stages.keys() == {"1", "2 0.3", "2 0.5", "2 0.7"} and stages["1"]["one"] < 1
    texts = {(row["rule"], row["pruned"]): row for row in rows if row["what"] == "text"}
    assert texts.keys() == masks.keys() and texts["dense", 0.0]["kl"] == 0
    assert all(row["kl"] > 0 for key, row in texts.items() if masks[key]["kept"] < 1)
    needles = [row for row in rows if row["what"] == "needle"]
    assert len(needles) == len(masks) and all(row["asked"] == 4 and 0 <= row["digits"] <= 1 for row in needles)


def test_the_bench_compares_before_it_times(tmp_path):
    spec = importlib.util.spec_from_file_location("bench_pretrained", ROOT / "book/measurements/pretrained/bench.py")
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    path = checkpoints.write_reader(tmp_path / "reader", context=128)
    ours, _ = pretrained.load(path, device="cpu")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        assert driver.agree(ours, theirs, tokens) < 1e-4
        rows = driver.prompt_rows(ours, theirs, tokens, 3, "cpu") + driver.token_rows(ours, theirs, tokens, 3, "cpu")
        assert [(row["what"], row["name"]) for row in rows] == [
            (what, name) for what in ("prompt", "token") for name in ("this book", "transformers")
        ]
        ours.head.weight.mul_(1.01)
        with pytest.raises(AssertionError):
            driver.agree(ours, theirs, tokens)
