"""A candidate is not heard in the first layer; a model above empty layers is the same, and leaves it room to read."""

import json

import pytest
import torch
from support import house

from effattn_core.focus import Added, condense, recall
from effattn_core.focus.depth import added_to, deepened, recalled_without
from kernels import runtime


def texts(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(40, (1, 3, 16), generator=generator), torch.randint(40, (1, 16), generator=generator)


def test_in_the_first_layer_all_candidates_are_the_same_and_above_it_they_differ():
    model = recall.model(layers=2).eval()
    made = condense(model, Added(model, 0), *texts(), prompt=8)
    for first, second in (made.keys, made.values):
        assert torch.equal(first[:, :, 0], first[:, :, 1]) and torch.equal(first[:, :, 0], first[:, :, 2])
        assert not torch.equal(second[:, :, 0], second[:, :, 1])


@pytest.mark.parametrize("below", [0, 1, 2])
def test_empty_layers_below_change_no_bit_and_let_candidates_read_first(below):
    model = recall.model(layers=2).eval()
    deep, tokens = deepened(model, below), texts(1)[0][:, 0]
    assert torch.equal(deep(tokens)[0], model(tokens)[0]) and len(deep.blocks) == 2 + below
    assert not any(weight.requires_grad for weight in deep.parameters())
    key = condense(deep, added_to(deep, below), *texts(), prompt=8).keys[below]
    assert torch.equal(key[:, :, 0], key[:, :, 1]) == (below == 0)


def test_one_silent_layer_is_silent_for_the_last_token_alone_and_only_meanwhile():
    model = recall.model(layers=2).eval()
    before = recalled_without(model, None, 1)
    assert before == recall.recalled_dense(model, 1)
    recalled_without(model, 0, 1)
    assert recalled_without(model, None, 1) == before
    assert not any(block.mixer.output._forward_hooks for block in model.blocks)
    with pytest.raises(ValueError, match="below must be a whole number of at least 0"):
        deepened(model, -1)


def test_a_dry_run_records_every_kind_of_lesson_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    driver = house.driver("focus/run_depth")
    monkeypatch.setattr(driver.run, "ASKED", 8)
    monkeypatch.setattr(driver, "BATCH", 4)
    arguments = dict(seeds=(0,), base_steps=1, steps=1, kinds=("questions", "both"), chunks=(1, 3), folder=tmp_path)
    driver.main(target=tmp_path / "run.json", **arguments)
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    found = {(row["losses"], row["chunks"]) for row in rows if row["what"] == "recall"}
    assert found == {(kind, count) for kind in ("untrained", "questions", "both") for count in (1, 3)}
    assert [row["layer"] for row in rows if row["what"] == "where"] == [None, 0, 1, 2, 3]

    def never(*given, **settings):
        raise AssertionError("what is finished is not made again")

    monkeypatch.setattr(driver, "recall_rows", never)
    driver.main(target=tmp_path / "again.json", **arguments)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows
