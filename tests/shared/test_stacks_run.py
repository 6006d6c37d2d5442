"""The recorded run of the named stacks: that it goes on where it stopped, and that its file holds all of it."""

import json

import pytest
from support import house

from effattn_core.stacks import BEST, PRESETS


@pytest.fixture
def driver():
    return house.driver("stacks/run")


def test_a_recorded_run_goes_on_from_the_parts_that_are_done(driver, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(driver, "reproducible", lambda *given, **settings: None)
    monkeypatch.setattr(driver, "shakespeare", lambda: "to be or not to be " * 4000)
    monkeypatch.setattr(driver, "LENGTHS", (32, 48, 64))
    monkeypatch.setattr(driver, "MOST_READ", 48)
    names = ("Plain Transformer", "Best")
    settings = dict(seeds=(0,), names=names, steps=1, lengths=(32, 48, 64), repeats=3, folder=tmp_path / "runs")
    driver.main(**settings, target=tmp_path / "first.json")
    first = json.loads((tmp_path / "first.json").read_text())
    assert "text Best, seed 0" in capsys.readouterr().out
    monkeypatch.setattr(driver, "text_rows", house.never)
    monkeypatch.setattr(driver, "length_rows", house.never)
    driver.main(**settings, target=tmp_path / "second.json")
    assert json.loads((tmp_path / "second.json").read_text())["rows"] == first["rows"]
    kept = {(row["name"], row["tokens"]): row for row in first["rows"] if row["what"] == "kept"}
    assert set(kept) == {(name, tokens) for name in names for tokens in (32, 48, 64)}
    row = 4 * 2 * 2 * 16 * 4  # of the plain one per token: four layers, keys and values, two heads of 16, four bytes
    assert [kept["Plain Transformer", tokens]["bytes"] for tokens in (32, 48, 64)] == [32 * row, 48 * row, 64 * row]
    assert [kept["Best", tokens]["filled"] for tokens in (32, 48, 64)] == [False, False, True]
    states, bounds = 2 * 4 * 16 * 32 * 4, 2 * 2 * 16 * 4  # of two layers; and, of each block of 16 tokens, two keys
    shared = row // 4
    for tokens in (32, 48, 64):
        assert kept["Best", tokens]["bytes"] == states + tokens * shared + tokens // 16 * bounds


def test_a_token_that_is_decoded_wrongly_is_not_timed(driver, monkeypatch):
    monkeypatch.setattr(driver, "LENGTHS", (48,))
    driver.read("Plain Transformer", 48)
    model_of = driver.make

    def off(stack, vocabulary, seed, context):
        model = model_of(stack, vocabulary, seed, context)
        prefill = model.prefill

        def wrong(tokens, states, **settings):
            return prefill(tokens.flip(1), states, **settings)

        model.prefill = wrong
        return model

    monkeypatch.setattr(driver, "make", off)
    with pytest.raises(AssertionError, match="Plain Transformer: a decoded token is off by .* at 48 tokens"):
        driver.read("Plain Transformer", 48)


def test_the_recorded_run_holds_every_stack_seed_and_length(driver):
    rows = json.loads((house.MEASUREMENTS / "stacks" / "training-cpu.json").read_text())["rows"]
    every = [(name, tokens) for tokens in driver.LENGTHS for name in driver.NAMES]
    for what in ("kept", "decode"):
        assert [(row["name"], row["tokens"]) for row in rows if row["what"] == what] == every
    text = [row for row in rows if row["what"] == "text"]
    assert [(row["seed"], row["name"]) for row in text] == [
        (seed, name) for seed in driver.SEEDS for name in driver.NAMES
    ]
    plain = text[0]
    for row in text:
        assert row["steps"] == driver.STEPS and 1 < row["loss"] < 4
        assert abs(row["met"] / plain["met"] - 1) < 0.01
        share = row["optimizer_bytes"] / (8 * row["parameters"])
        low = PRESETS[row["name"]].optimizer != "AdamW"
        assert share < 0.2 if low else share == 1
    assert driver.NAMES == tuple(PRESETS) and BEST == PRESETS["Best"]
