"""The measurement of attention: a dry run holds every form and case, and a wrong one is never timed."""

import json

import pytest
import torch
from support import house

from kernels import bench, runtime


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """The driver as its command finds it, on the CPU anywhere, over short texts and with few repeats."""
    driver = house.driver("attention/bench")
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(bench, "stored", lambda path, commit: [])
    monkeypatch.setattr(driver, "Path", lambda _: tmp_path / "bench.py")
    for name, value in dict(TIMES=(16, 32, 48, 64), TRAINED=((2, 16),), CONTEXTS=(16,), WINDOW=8, NAIVE=48).items():
        monkeypatch.setattr(driver, name, value)
    compare = bench.compare
    quick = dict(repeats=3, warmup=0, progress=False)
    monkeypatch.setattr(bench, "compare", lambda *given, **settings: compare(*given, **settings | quick))
    return driver


def test_a_dry_run_times_every_form_of_every_case(driver, tmp_path):
    driver.main()
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    assert {row["what"] for row in rows} == {
        "forward", "forward and backward", "forward, window 8", "decode one token",
    }  # fmt: skip
    for case, *_ in driver.cases():
        names = {row["name"] for row in rows if case.items() <= row.items()}
        naive = {"naive, scores stored"} if case["tokens"] <= 48 or case["what"].startswith("decode") else set()
        assert names == {"PyTorch SDPA", "this book", "tiled"} | naive


def test_a_wrong_form_is_not_timed(driver, monkeypatch):
    right = driver.attention
    monkeypatch.setattr(driver, "attention", lambda *given, **settings: right(*given, **settings) + 0.01)
    with pytest.raises(AssertionError, match="this book differs from PyTorch's by 0.01"):
        driver.main()


def test_in_half_precision_a_form_may_differ_by_roundings_of_the_largest_number(driver, monkeypatch):
    """In bfloat16 two right forms of numbers near 250 differ by 1: one rounding."""
    device, case = torch.device("cpu"), {"what": "forward"}
    torch.manual_seed(0)
    tensors = driver.inputs(1, 64, 64, torch.bfloat16, device, False)
    tensors[2] *= 64
    names = {"PyTorch SDPA", "this book", "tiled"}
    assert names <= {row["name"] for row in driver.measure(case, tensors, None, False, device)}
    right = driver.attention
    monkeypatch.setattr(driver, "attention", lambda *given, **settings: right(*given, **settings) * 1.05)
    with pytest.raises(AssertionError, match="this book differs from PyTorch's"):
        driver.measure(case, tensors, None, False, device)
