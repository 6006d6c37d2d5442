"""Timings: a wrong candidate is never timed, and a measurement says where it comes from."""

import json
import time

import pytest
from support.house import ROOT

from kernels import bench


def test_a_slower_candidate_is_seen_as_slower():
    candidates = {"short": lambda: time.sleep(0.002), "long": lambda: time.sleep(0.02)}
    short, long = bench.compare(candidates, repeats=5, progress=False)
    assert short.ratio == 1 and long.ratio > 3 and long.lower_quartile <= long.median <= long.upper_quartile


def test_a_wrong_candidate_is_refused_before_anything_is_timed():
    calls = []

    def check(name, result):
        calls.append(name)
        assert result == 1, f"{name} is wrong"

    with pytest.raises(AssertionError, match="second is wrong"):
        bench.compare({"first": lambda: 1, "second": lambda: 2}, check=check, progress=False)
    assert calls == ["first", "second"]
    with pytest.raises(ValueError, match="three repeats; got 1 and 2"):
        bench.compare({"first": lambda: 1}, repeats=2)


def test_a_measurement_is_whole_and_gone_on_from_only_at_its_commit(tmp_path):
    path = tmp_path / "measurement.json"
    assert bench.stored(path, "abc") == []
    bench.write_measurement(path, {"commit": "abc"}, [{"median": 1.0}])
    assert bench.stored(path, "abc") == [{"median": 1.0}] and bench.stored(path, "other") == []
    bench.write_measurement(path, {"commit": "abc-dirty"}, [{"median": 1.0}])
    assert bench.stored(path, "abc-dirty") == []
    assert [file.name for file in tmp_path.iterdir()] == ["measurement.json"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "book" / "measurements").rglob("*.json")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_stored_measurement_says_where_it_comes_from_and_names_no_machine(path):
    content = json.loads(path.read_text())
    assert {"command", "date", "commit", "device", "torch", "triton", "seed"} <= set(content["provenance"])
    for row in content["rows"]:
        if "median" not in row:  # compiled and not run, fitted to other rows, or left out with a reason
            continue
        assert row["lower_quartile"] <= row["median"] <= row["upper_quartile"]
    assert "/home" not in path.read_text() and "/root" not in path.read_text()
