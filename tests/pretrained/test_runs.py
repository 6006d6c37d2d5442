"""The recorded runs on a trained model, tried on a small one: whole, and true where the truth is known."""

import importlib.util
import json

import pytest
from support.house import ROOT

from . import checkpoints


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A function: the rows that a topic's driver writes for one short passage."""
    source = checkpoints.write_reader(tmp_path / "reader")

    def run(topic, length):
        path = ROOT / "book" / "measurements" / topic / "run_smollm2.py"
        spec = importlib.util.spec_from_file_location(f"{topic}_smollm2", path)
        driver = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(driver)
        target = tmp_path / f"{topic}.json"
        driver.main(source, passages=1, length=length, folder=tmp_path / topic, target=target)
        return json.loads(target.read_text())["rows"]

    return run


def test_windows_read_alike_until_they_lose_a_key(record):
    rows = record("attention", 2048)
    losses = {row["name"]: row["losses"] for row in rows if row["what"] == "window"}
    assert len(losses) == 4 and all(len(each) == 16 for each in losses.values())
    assert len({tuple(each[:2]) for each in losses.values()}) == 1  # 256 tokens fit every window
    assert len({tuple(each) for each in losses.values()}) == 4
    sinks = [row for row in rows if row["what"] == "sink"]
    assert [row["layer"] for row in sinks] == [0, 1]
    assert all(0 <= share <= 1 for row in sinks for share in row["first"] + row["near"]) and len(sinks[0]["first"]) == 4


def test_attention_within_a_distance_grows_to_all_of_it(record):
    rows = record("retention", 2048)
    assert [row["layer"] for row in rows] == [0, 1]
    for row in rows:
        for shares in row["shares"]:
            assert len(shares) == len(row["distances"]) and shares == sorted(shares) and 0 < shares[-1] <= 1


def test_a_layer_is_like_itself_and_lending_changes_what_is_read(record):
    rows = record("yoco", 96)
    for row in rows[:2]:
        assert row["keys"][row["layer"]] == row["values"][row["layer"]] == 1 and 0 <= min(row["keys"]) < 1
    losses = {row["layer"]: row["loss"] for row in rows[2:]}
    assert losses.keys() == {None, 1, "every second"}
    assert losses[1] == losses["every second"] != losses[None]  # of two layers, one lends
