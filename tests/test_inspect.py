"""Kernels compile ahead of time, as their launchers would launch them, without a spill."""

import json
import shutil

import pytest

from kernels import inspect

TOPICS = ["attention", "primer"]
SHARED_MEMORY_OF_A_BLOCK = {80: 163 * 1024, 90: 227 * 1024}  # what one block may ask for (CUDA C++ Programming Guide)


@pytest.mark.parametrize("head_dim", [32, 64, 128])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("topic", TOPICS)
def test_every_kernel_compiles_without_spilling_within_the_device(topic, architecture, dtype, head_dim):
    for report in inspect.reports(topic, architecture, dtype, head_dim):
        print(report)
        assert report.spills == 0 and report.instructions["local (spills)"] == 0, report.kernel
        assert report.shared_memory <= SHARED_MEMORY_OF_A_BLOCK[architecture], report.kernel
        if report.kernel in ("attention_forward_kernel", "attention_decode_kernel"):
            assert report.instructions["matrix"] > 0


@pytest.mark.parametrize(
    ("registers", "shared_memory", "warps", "architecture", "share", "limiter"),
    [
        (24, 0, 4, 90, 1.0, "warps"),
        (128, 0, 4, 90, 0.25, "registers"),
        (32, 100 * 1024, 8, 90, 0.25, "shared memory"),
        (32, 0, 1, 80, 0.5, "blocks"),
    ],
)
def test_occupancy_follows_the_published_limits(registers, shared_memory, warps, architecture, share, limiter):
    assert inspect.occupancy(registers, shared_memory, warps, architecture) == (share, limiter)


def test_an_unknown_architecture_or_topic_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="no published limits for sm_61"):
        inspect.occupancy(32, 0, 4, 61)
    with pytest.raises(ValueError, match="there is no kernels.missing"):
        inspect.reports("missing")


def test_a_kernel_that_does_not_compile_gives_the_compiler_s_line(tmp_path, monkeypatch):
    """The child runs in a copy of the repository whose kernel has lost a conversion that its product needs."""
    copy = tmp_path / "copy"
    ours = inspect.CACHE.parents[1] / "kernels"
    shutil.copytree(ours, copy / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    forward = copy / "kernels" / "attention" / "forward.py"
    spoiled = forward.read_text().replace("tl.dot(weight.to(value.dtype), value,", "tl.dot(weight, value,")
    assert spoiled != forward.read_text()
    forward.write_text(spoiled)
    monkeypatch.setattr(inspect, "CACHE", copy / ".cache" / "inspect")
    with pytest.raises(RuntimeError, match="kernels.attention does not compile for sm_90 in bfloat16"):
        inspect.reports("attention", 90, "bfloat16", 64)
    assert not list((copy / ".cache").rglob("*.json"))


def test_the_command_prints_a_table_and_json(capsys):
    inspect.main(["attention"])
    assert "compiled, not run" in capsys.readouterr().out
    inspect.main(["attention", "--json"])
    assert {"registers", "spills", "occupancy"} <= set(json.loads(capsys.readouterr().out)[0])
