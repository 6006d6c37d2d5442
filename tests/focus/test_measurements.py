"""What was recorded of condensed chunks is whole, and its drivers run dry."""

import json
import math
import statistics

import pytest
import torch
from support import house

from effattn_core import pretrained
from effattn_core.focus import recall
from effattn_core.focus.training import Lesson, logits
from effattn_core.model import LanguageModel, configuration
from effattn_core.pretrained.interface import opened
from effattn_core.recordings import measured
from kernels import runtime

RECALL, SMOLLM2 = "focus/recall-cpu", "focus/smollm2-cpu"
KINDS = ("continuation", "reconstruction", "both", "questions")
NAMES = ("dense", "window only", "local only", "untrained candidates", "trained candidates")


def test_a_dry_run_records_every_kind_of_lesson_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    run = house.driver("focus/run")
    assert tuple(run.KINDS) == KINDS
    monkeypatch.setattr(run, "ASKED", 8)
    monkeypatch.setattr(run, "BATCH", 4)
    arguments = dict(seeds=(0,), base_steps=1, steps=1, chunks=(1, 3), folder=tmp_path)
    run.main(target=tmp_path / "run.json", **arguments)
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    found = {(row["losses"], row["chunks"]) for row in rows if row["what"] == "recall"}
    assert found == {(kind, count) for kind in ("untrained", *KINDS) for count in (1, 3)}
    assert {row["name"] for row in rows if row["what"] == "baseline"} == {"dense", "window only"}
    losing = [row for row in rows if row["what"] == "losing" and row["losses"] == "both"]
    assert [(row["chunk"], row["chunks"]) for row in losing] == [(size, run.MEMORY // size) for size in run.SIZES]
    monkeypatch.setattr(run, "recall_rows", house.never)
    monkeypatch.setattr(run, "baseline_rows", house.never)
    run.main(target=tmp_path / "again.json", **arguments)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows


def test_a_dry_run_judges_every_method_on_the_same_tokens_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    run, tokenizer = house.driver("focus/run_smollm2"), opened("smollm2").tokenizer()
    torch.manual_seed(0)
    sizes = dict(width=8, layers=1, heads=1, key_value_heads=1, head_dim=8, feed_forward=8, context=512)
    model = LanguageModel(configuration("tiny", tokenizer.get_vocab_size(), **sizes)).eval()
    monkeypatch.setattr(pretrained, "load", lambda *given, **settings: (model, tokenizer))
    for name, value in dict(WINDOW=128, CHUNK=64).items():
        monkeypatch.setattr(run, name, value)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    arguments = dict(memories=2, steps=2, lessons=4, judged_texts=1, chunks=(1, 3), segments=2, numbers=1,
                     depths=(0.35,), hiding=(2,), folder=tmp_path)  # fmt: skip
    run.main(target=tmp_path / "run.json", **arguments)
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    judged = [row for row in rows if row["what"] != "training"]
    for what, counts, tokens in (("perplexity", (1, 3), 16), ("reconstruction", (1, 3), 16), ("numbers", (2,), 5)):
        found = {(row["chunks"], row["name"], row["tokens"]) for row in judged if row["what"] == what}
        names = NAMES if what == "numbers" else (*NAMES, run.FOREIGN)
        assert found == {(count, name, tokens) for count in counts for name in names}, what
    assert all(abs(row["loss"] - math.log(49152)) < 1 for row in judged), "a model that knows nothing"
    training = rows[0]
    assert training["what"] == "training" and len(training["losses"]) == 1
    assert max(training["moved"]) > 0
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    for make in ("judged", "judged_dense", "Pool"):
        monkeypatch.setattr(run, make, house.never)
    run.main(target=tmp_path / "again.json", **arguments)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows


def test_a_memory_in_chunks_of_the_driver_is_what_condense_reads(monkeypatch):
    run = house.driver("focus/run_smollm2")
    model = recall.model(0).eval().requires_grad_(False)
    added = run.Added(model, 0)
    memory, local, target = (torch.randint(50, (size,)) for size in (2 * 16, 8, 4))
    for name, value in dict(CHUNK=16, PROMPT=4).items():
        monkeypatch.setattr(run, name, value)
    states = run.read_chunks(model, run._chunked(memory[None], 2), memory[None, :0])
    found = run.logits(model, added, states, local[None], target[None])
    lesson = Lesson(memory[None], local[None], target[None])
    torch.testing.assert_close(found, logits(model, added, lesson, chunk=16, prompt=4))


def content(recording):
    return json.loads((house.MEASUREMENTS / f"{recording}.json").read_text())


@pytest.mark.parametrize("recording", [RECALL, SMOLLM2])
def test_recordings_are_of_clean_commits(recording):
    assert "dirty" not in content(recording)["provenance"]["commit"]


def test_the_recorded_recall_is_whole_and_untrained_candidates_know_nothing():
    seeds, counts = {0, 1, 2}, {1, 2, 4, 8, 16}
    for kind in ("untrained", *KINDS):
        rows = measured(RECALL, what="recall", losses=kind)
        assert {(row["seed"], row["chunks"]) for row in rows} == {(seed, count) for seed in seeds for count in counts}
        assert all(0 <= row["recall"] <= 1 for row in rows)
    chance = 1 / recall.VALUES
    for row in (*measured(RECALL, what="recall", losses="untrained"), *measured(RECALL, name="window only")):
        assert abs(row["recall"] - chance) < 0.1
    for row in measured(RECALL, name="dense"):
        assert row["recall"] > 0.8 or row["tokens"] > recall.WINDOW


def test_the_recorded_run_on_smollm2_is_whole():
    run = house.driver("focus/run_smollm2")
    for what in ("perplexity", "reconstruction"):
        rows = measured(SMOLLM2, what=what)
        names = (*NAMES, run.FOREIGN)
        wanted = {(name, passage, count) for name in names for passage in range(run.JUDGED) for count in run.CHUNKS}
        assert {(row["name"], row["passage"], row["chunks"]) for row in rows} == wanted
    numbers = measured(SMOLLM2, what="numbers")
    wanted = {(name, depth, count) for name in NAMES for depth in run.DEPTHS for count in run.HIDING}
    assert {(row["name"], row["depth"], row["chunks"]) for row in numbers} == wanted
    training = measured(SMOLLM2, what="training")[0]
    assert len(training["losses"]) == math.ceil(run.STEPS / run.EVERY)
    assert training["parameters"] == 30 * 2 * 576 * 64 * (9 + 3) + 576
    share = {name: statistics.fmean(row["right"] for row in numbers if row["name"] == name) for name in NAMES}
    assert share["dense"] > 0.9 and share["local only"] < 0.2
