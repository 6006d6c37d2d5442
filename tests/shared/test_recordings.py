"""Recorded measurements are read once, and by the fields that are wanted."""

import json

import pytest
import torch

from effattn_core import recordings
from effattn_core.measurements import rounded


@pytest.fixture
def stored(tmp_path, monkeypatch):
    rows = [{"what": "text", "name": "a", "loss": 1}, {"what": "text", "name": "b"}, {"what": "mask", "name": "a"}]
    (tmp_path / "topic").mkdir()
    (tmp_path / "topic" / "cpu.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr(recordings, "MEASUREMENTS", tmp_path)
    recordings._rows.cache_clear()
    yield tmp_path, rows
    recordings._rows.cache_clear()


def test_rows_are_those_that_have_every_field_that_is_wanted(stored):
    _, rows = stored
    assert recordings.measured("topic/cpu") == rows
    assert recordings.measured("topic/cpu", what="text", name="a") == rows[:1]
    assert recordings.measured("topic/cpu", loss=None) == rows[1:] and recordings.measured("topic/cpu", name="c") == []


def test_a_file_is_read_once(stored):
    folder, rows = stored
    recordings.measured("topic/cpu")
    (folder / "topic" / "cpu.json").unlink()
    assert recordings.measured("topic/cpu", what="mask") == rows[2:]


def test_what_is_not_there_says_how_to_make_it(stored):
    with pytest.raises(FileNotFoundError, match="topic/gpu.json is not recorded yet: run make bench or make runs"):
        recordings.measured("topic/gpu")


def test_floats_are_rounded_however_deep_they_lie_and_nothing_else_is():
    given = {"a": 0.123456, "b": [1, True, "x", (2.00009, None)], "c": torch.tensor([[0.5, 1 / 3]])}
    assert rounded(given) == {"a": 0.1235, "b": [1, True, "x", [2.0001, None]], "c": [[0.5, 0.3333]]}
    assert rounded(1 / 3, 2) == 0.33
