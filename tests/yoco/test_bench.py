"""YOCO's measurement: a dry run, and a model whose prefill is wrong is not timed."""

import json

import pytest
import torch
from support import house

from effattn_core.yoco import YOCO
from kernels import bench, runtime


@pytest.fixture
def driver(monkeypatch):
    """The driver as the command finds it; on the CPU anywhere, from nothing, and a few repeats are enough."""
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(bench, "stored", lambda path, commit: [])
    compare = bench.compare
    quick = dict(repeats=3, warmup=0, progress=False)
    monkeypatch.setattr(bench, "compare", lambda *given, **settings: compare(*given, **settings | quick))
    return house.driver("yoco/bench")


def test_a_dry_run_times_every_model_at_every_length(driver, tmp_path):
    driver.main(times=(48, 96), folder=tmp_path)
    rows = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    for what in ("prefill", "decode"):
        found = sorted((row["name"], row["tokens"]) for row in rows if row["what"] == what)
        assert found == sorted((name, tokens) for name in driver.MODELS for tokens in (48, 96))
    kept = {(row["name"], row["tokens"]): row["bytes"] for row in rows if row["what"] == "decode"}
    assert kept["Transformer", 96] == 2 * kept["Transformer", 48]
    assert kept["RetNet", 96] == kept["RetNet", 48]
    # Three caches against one, of the same two heads of 32.
    assert kept["Transformer", 96] - kept["Transformer", 48] == 3 * (
        kept["YOCO, window", 96] - kept["YOCO, window", 48]
    )


def test_a_prefill_that_says_something_else_is_not_timed(driver, tmp_path, monkeypatch):
    monkeypatch.setattr(YOCO, "prefill", lambda self, tokens: (self(tokens)[0][:, :1], None))
    with pytest.raises(AssertionError, match="YOCO, window: a prefill is off by .* at 48 tokens: it is not timed"):
        driver.main(times=(48,), folder=tmp_path)
