"""Recorded measurements are read once, and by the fields that are wanted."""

import json

import pytest

from effattn_core import recordings


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
