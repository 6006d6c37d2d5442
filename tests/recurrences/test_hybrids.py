"""A few layers of attention among recurrent ones: the model, what it keeps, and the run that judges it."""

import json

import pytest
import torch
from support import house

from effattn_core.layers import AttentionMixer
from effattn_core.model import Configuration, LanguageModel, configuration, generate
from effattn_core.recurrences.mixer import RecurrentMixer


def sizes(**changes):
    settings = dict(mixer="recurrent", rule="gated_delta", layers=4, attention_layers=(1, 3), context=48)
    return configuration("tiny", 11, **settings | changes)


def test_attention_stands_in_the_layers_that_are_named_and_nowhere_else():
    kinds = [type(block.mixer) for block in LanguageModel(sizes()).blocks]
    assert kinds == [RecurrentMixer, AttentionMixer, RecurrentMixer, AttentionMixer]
    kinds = [type(block.mixer) for block in LanguageModel(sizes(attention_layers=())).blocks]
    assert kinds == [RecurrentMixer] * 4


@pytest.mark.parametrize("rule", ["retention", "mamba2", "gla", "gated_delta"])
def test_a_hybrid_decodes_what_it_reads_at_once(rule):
    torch.manual_seed(0)
    model = LanguageModel(sizes(rule=rule)).double()
    tokens = torch.randint(11, (2, 40))
    whole, states, found = model(tokens)[0], model.new_states(2), []
    for part in tokens.split([17, 1, 1, 21], 1):
        logits, states = model(part, states)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-9)
    prompt = torch.tensor([1, 2, 3])
    model = LanguageModel(sizes(rule=rule))
    assert list(generate(model, prompt, 12)) == list(generate(model, prompt, 12, use_cache=False))


def test_only_the_attention_layers_keep_more_for_a_longer_text():
    model = LanguageModel(sizes())
    kept = {}
    for length in (8, 16, 32):
        _, states = model.prefill(torch.zeros(1, length, dtype=torch.int64))
        kept[length] = [state.kept_bytes for state in states]
    per_token = 2 * 2 * 16 * 4  # keys and values of two heads of 16 numbers, in four bytes
    for length, found in kept.items():
        assert found[1] == found[3] == length * per_token
        assert found[0] == found[2] == kept[8][0] > 0


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(attention_layers=(4,)), r"attention_layers must rise and lie in 0\.\.3; they are \(4,\)"),
        (dict(attention_layers=(2, 1)), r"must rise and lie in 0\.\.3; they are \(2, 1\)"),
        (dict(attention_layers=(1, 1)), r"must rise and lie in 0\.\.3; they are \(1, 1\)"),
        (dict(mixer="attention", rule=None), "for a model with another mixer.*got mixer 'attention'"),
        (dict(mixer="gated", rule=None, cross_layers=2), "without cross layers and loops; got .* 2 cross layers"),
        (dict(loops=2), "without cross layers and loops; got .* 2 loops"),
    ],
)
def test_a_hybrid_that_is_none_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        sizes(**changes)


def test_a_model_without_the_setting_is_what_it_was():
    plain = Configuration(11, mixer="retention", key_value_heads=4)
    assert plain.attention_layers == () and len(LanguageModel(plain).blocks) == 4


@pytest.fixture
def driver():
    return house.driver("recurrences/run_hybrid")


def test_a_recorded_run_goes_on_from_the_runs_that_are_done(driver, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(driver, "CASES", ((4, 0),))
    monkeypatch.setattr(driver, "reproducible", lambda *given, **settings: None)
    monkeypatch.setattr(driver, "shakespeare", lambda: "to be or not to be " * 2000)
    arms = (("softmax", "all"), ("gated_delta", 2))
    settings = dict(seeds=(0,), arms=arms, recall_steps=1, text_steps=1, tokens=64, folder=tmp_path / "runs")
    driver.main(**settings, target=tmp_path / "first.json")
    first = json.loads((tmp_path / "first.json").read_text())
    assert "attention 2, seed 0" in capsys.readouterr().out
    driver.main(**settings, target=tmp_path / "second.json")
    assert "seed 0" not in capsys.readouterr().out
    assert json.loads((tmp_path / "second.json").read_text())["rows"] == first["rows"]
    assert {(row["what"], row["name"], row["layer"]) for row in first["rows"]} == {
        (what, name, layer) for what in ("kept", "recall", "text") for name, layer in arms
    }
    whole, hybrid = (row["bytes"] for row in first["rows"] if row["what"] == "kept")
    state = 2 * 16 * 16 * 4  # two heads of 16 × 16 numbers
    assert whole == 4 * 64 * 256 and hybrid == 64 * 256 + 3 * state


def test_the_recorded_run_holds_every_arm_seed_and_case(driver):
    rows = json.loads((house.MEASUREMENTS / "recurrences" / "hybrid-cpu.json").read_text())["rows"]
    assert [(row["name"], row["layer"]) for row in rows if row["what"] == "kept"] == list(driver.ARMS)
    for seed in driver.SEEDS:
        for name, layer in driver.ARMS:
            mine = [row for row in rows if (row["name"], row["layer"], row.get("seed")) == (name, layer, seed)]
            assert [row["pairs"] for row in mine if row["what"] == "recall"] == [pairs for pairs, _ in driver.CASES]
            assert [row["steps"] for row in mine] == [driver.RECALL_STEPS] * len(driver.CASES) + [driver.TEXT_STEPS]
            assert all(0 <= row.get("accuracy", 0) <= 1 and 1 < row.get("loss", 2) < 4 for row in mine)
