"""A sound recording is packed with its hash; a spoiled one is refused, and the reason is said."""

import hashlib
import json
import shutil
import subprocess
import zipfile

import pytest
from support.house import ROOT

from effattn_core import sending
from kernels import bench

MADE = {
    "command": "make bench", "date": "2026-11-20", "commit": "0a1b2c3", "device": "NVIDIA H200",
    "processor": "x86_64", "cpu": "Some CPU", "python": "3.11.7", "torch": "2.13.0", "triton": "3.9.0", "seed": 0,
}  # fmt: skip
ROW = {
    "what": "forward", "tokens": 1024, "name": "this book", "correct": True,
    "median": 1.0, "lower_quartile": 0.9, "upper_quartile": 1.1, "ratio": 1.0, "repeats": 9,
}  # fmt: skip


def stored(folder, made=None, row=None, without=(), name="gpu-nvidia-h200.json"):
    made = {key: value for key, value in (MADE | (made or {})).items() if key not in without}
    row = {key: value for key, value in (ROW | (row or {})).items() if key not in without}
    path = folder / "attention" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"provenance": made, "rows": [row]}))
    return path


def test_a_sound_recording_is_packed_with_its_hash_and_a_letter(tmp_path):
    path, target = stored(tmp_path), tmp_path / "out" / "recordings.zip"
    assert sending.faults(path) == []
    (entry,) = sending.pack([path], target, "https://example.org/book")
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() and entry["device"] == "NVIDIA H200"
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["SEND.txt", "manifest.json", "measurements/attention/gpu-nvidia-h200.json"]
        assert archive.read(entry["path"]) == path.read_bytes()
        assert json.loads(archive.read("manifest.json")) == [entry]
        assert "https://example.org/book/issues" in archive.read("SEND.txt").decode()
    before = target.read_bytes()
    sending.pack([path], target, "https://example.org/book")
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (dict(made={"commit": "0a1b2c3-dirty"}), "code was changed and not committed"),
        (dict(made={"commit": "unknown"}), "names no commit"),
        (dict(made={"device": "cuda"}), "which names none"),
        (dict(without=("device",)), "lacks 'device'"),
        (dict(name="cpu.json"), "but the file is called cpu.json"),
        (dict(made={"date": "2999-01-01"}), "yet to come"),
        (dict(made={"command": "make runs"}), "only what make bench made"),
        (dict(without=("torch",)), "lacks 'torch'"),
        (dict(without=("upper_quartile",)), "lacks 'upper_quartile'"),
        (dict(without=("correct",)), "lacks 'correct'"),
        (dict(row={"median": float("nan")}), "median is nan"),
        (dict(row={"error": float("inf")}), "error is inf"),
        (dict(row={"correct": False}), "correct is False"),
        (dict(row={"correct": None}), "correct is None"),
        (dict(row={"upper_quartile": 1.6}), "lie 70% of the median apart"),
        (dict(row={"lower_quartile": 1.2}), "not in order"),
        (dict(row={"repeats": 2}), "was timed 2 times"),
    ],
)
def test_a_spoiled_recording_is_refused_with_its_reason(spoiled, reason, tmp_path):
    path = stored(tmp_path, **spoiled)
    (fault,) = sending.faults(path)
    assert reason in fault
    with pytest.raises(ValueError, match="attention/"):
        sending.pack([path], tmp_path / "recordings.zip", "url")
    assert not (tmp_path / "recordings.zip").exists()


def test_correctness_stands_before_time_and_what_is_cut_off_is_refused(tmp_path):
    path = stored(tmp_path)
    content = json.loads(path.read_text())
    content["rows"][0] = dict(reversed(content["rows"][0].items()))
    path.write_text(json.dumps(content))
    assert sending.faults(path)[0].endswith("correctness comes first.")
    path.write_text(json.dumps(content)[:40])
    assert "no JSON of provenance and rows" in sending.faults(path)[0]
    path.write_text(json.dumps(content | {"rows": []}))
    assert "has no row" in sending.faults(path)[0]


def test_what_bench_writes_is_sound(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "_commit", lambda: "0a1b2c3")
    timings = bench.compare({"a": lambda: sum(range(20_000))}, check=lambda *_: None, repeats=9, progress=False)
    path = tmp_path / "topic" / "cpu.json"
    path.parent.mkdir()
    bench.write_measurement(path, bench.provenance("make bench"), bench.rows_of({"what": "x"}, timings))
    assert [each for each in sending.faults(path) if "apart" not in each] == []
    unchecked = bench.rows_of({"what": "x"}, bench.compare({"a": lambda: None}, repeats=9, progress=False))
    bench.write_measurement(path, bench.provenance("make bench"), unchecked)
    assert any("correct is None" in each for each in sending.faults(path))


def test_the_command_packs_what_git_does_not_have_and_says_why_not(tmp_path, capsys):
    root = tmp_path / "clone"
    (root / "book" / "measurements").mkdir(parents=True)
    shutil.copy(ROOT / "CITATION.cff", root)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    assert sending.main([], root) == 1 and "Run make bench first" in capsys.readouterr().err
    path = stored(root / "book" / "measurements")
    stored(root / "book" / "measurements", made={"command": "make runs"}, name="training-cpu.json")
    assert sending.main([], root) == 0
    said = capsys.readouterr().out
    assert "sound: measurements/attention/gpu-nvidia-h200.json, 1 rows, NVIDIA H200" in said
    assert (root / "_build" / "recordings.zip").exists() and "training" not in said
    stored(root / "book" / "measurements", row={"correct": None}, name="gpu-other.json")
    assert sending.main([], root) == 1  # the sound one is packed, the other refused
    said, (wrong,) = capsys.readouterr(), [each for each in root.rglob("gpu-other.json")]
    assert "refused: attention/gpu-other.json: row 0" in said.err and "sound:" in said.out
    with zipfile.ZipFile(root / "_build" / "recordings.zip") as archive:
        assert not [name for name in archive.namelist() if "other" in name]
    wrong.unlink()
    path.write_text("{")
    assert sending.main([], root) == 1 and "Nothing was packed" in capsys.readouterr().err
    assert not (root / "_build" / "recordings.zip").exists()
