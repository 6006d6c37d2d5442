"""Timings: a wrong candidate is never timed, and a measurement says where it comes from."""

import json
import subprocess
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


def test_a_device_has_a_file_of_its_own_and_goes_on_in_it(tmp_path, monkeypatch):
    assert bench.recording_path(tmp_path, "cpu").name == "cpu.json"
    made = bench.provenance("make bench", on="cpu")
    bench.write_measurement(tmp_path / "cpu.json", made, [])
    assert bench.recording_path(tmp_path, "cpu").name == "cpu.json"
    for other in (made | {"cpu": "Another"}, made | {"device": "CPU, 99 threads"}, {"device": made["device"]}):
        bench.write_measurement(tmp_path / "cpu.json", other, [])
        mine = bench.recording_path(tmp_path, "cpu")
        assert mine.name == f"cpu-{bench.slug(bench.cpu_name())}-{bench.slug(made['device'][5:])}.json"
        bench.write_measurement(mine, made, [])
        assert bench.recording_path(tmp_path, "cpu") == mine
    assert bench.recording_path(tmp_path, "cpu", "parts-").name == "parts-cpu.json"
    for name, file in (
        ("NVIDIA H200", "gpu-nvidia-h200.json"),
        ("NVIDIA A100-SXM4-80GB", "gpu-nvidia-a100-sxm4-80gb.json"),
    ):
        monkeypatch.setattr(bench.torch.cuda, "get_device_name", lambda name=name: name)
        assert bench.recording_path(tmp_path, "gpu").name == file
    with pytest.raises(ValueError, match="of a cpu or a gpu; got 'tpu'"):
        bench.recording_path(tmp_path, "tpu")


def test_no_bench_names_its_file_by_itself():
    for path in (ROOT / "book" / "measurements").glob("*/bench*.py"):
        text = path.read_text()
        assert "bench.recording_path(" in text or path.stem == "bench_compiled", path
        assert '"gpu.json"' not in text and '"cpu.json"' not in text and "{kind}.json" not in text, path


def test_recordings_make_no_commit_dirty(tmp_path, monkeypatch):
    root = tmp_path / "clone"
    for name in ("kernels/bench.py", "book/measurements/topic/cpu.json", "book/measurements/topic/bench.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    monkeypatch.setattr(bench, "__file__", str(root / "kernels" / "bench.py"))
    clean = bench._commit()
    (root / "book/measurements/topic/cpu.json").write_text("{ }")
    assert "dirty" not in clean and bench._commit() == clean
    (root / "book/measurements/topic/bench.py").write_text("{ }")
    assert bench._commit() == f"{clean}-dirty"


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
