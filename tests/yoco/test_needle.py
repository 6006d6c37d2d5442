"""The needle task: facts stand where they are said to, answers are theirs, and guessing scores by chance."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import house

from effattn_core.data import IGNORED
from effattn_core.train import train
from effattn_core.yoco.needle import KEYS, MODELS, VALUES, NeedleBatches, found, hidden_facts, needle_model

LETTERS = 9
TEXT = torch.randint(LETTERS, (3000,), generator=torch.Generator().manual_seed(5))


def drawn(time, facts, depth=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return hidden_facts(TEXT, 5, time, generator, letters=LETTERS, facts=facts, depth=depth)


@settings(max_examples=40)
@given(time=st.integers(12, 80), facts=st.integers(1, 6), depth=st.none() | st.floats(0, 1), seed=st.integers(0, 99))
def test_each_question_has_the_answer_of_the_one_fact_with_its_key(time, facts, depth, seed):
    tokens, targets = drawn(time, facts, depth, seed)
    haystack = time - facts
    assert tokens.shape == targets.shape == (5, time)
    for row, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        hidden = {}
        for place, token in enumerate(row[:haystack]):
            assert token < LETTERS or token >= LETTERS + KEYS
            if token >= LETTERS + KEYS:
                key, value = divmod(token - LETTERS - KEYS, VALUES)
                assert key not in hidden
                hidden[key] = place, value
        assert len(hidden) == facts and wanted[:haystack] == [IGNORED] * haystack
        asked = [token - LETTERS for token in row[haystack:]]
        assert sorted(asked) == sorted(hidden)
        assert [hidden[key][1] for key in asked] == wanted[haystack:]
        if depth is not None:
            assert hidden[asked[0]][0] == round(depth * (haystack - 1))


def test_letters_between_facts_are_the_plays_own():
    tokens, _ = drawn(60, 2)
    kept = tokens[:, :58] < LETTERS
    assert all(
        any((TEXT[start : start + 58][keep] == row[:58][keep]).all() for start in range(len(TEXT) - 57))
        for row, keep in zip(tokens, kept, strict=True)
    )


def test_an_untrained_model_guesses():
    torch.manual_seed(0)
    model = needle_model("YOCO, window", LETTERS, 64)
    assert found(model, TEXT, 40, letters=LETTERS, depth=0.5, batch=256) < 3 / VALUES


def test_a_window_finds_what_it_reaches_and_nothing_before():
    """Three layers of windows of 16 reach 45 letters: what lies before changes no answer, whatever the weights."""
    torch.manual_seed(0)
    model = needle_model("window alone", LETTERS, 128).double().eval()
    tokens, _ = drawn(104, 8, depth=0.0)
    changed = tokens.clone()
    changed[:, :50] = LETTERS - 1 - changed[:, :50].clamp(max=LETTERS - 1)
    with torch.no_grad():
        assert torch.equal(model.prefill(tokens[:, :97])[0], model.prefill(changed[:, :97])[0])
        reaching = needle_model("YOCO, window", LETTERS, 128).double().eval()
        assert not torch.equal(reaching.prefill(tokens[:, :97])[0], reaching.prefill(changed[:, :97])[0])


def test_the_models_are_nearly_of_one_size():
    counts = [needle_model(name, 80, 64).parameter_count for name in MODELS]
    assert max(counts) / min(counts) < 1.01


def test_some_steps_teach_a_yoco_to_find():
    torch.manual_seed(0)
    model = needle_model("YOCO, window", LETTERS, 64)
    batches = NeedleBatches(TEXT, 512, (12, 24), letters=LETTERS, facts=2)
    losses = train(model, batches, steps=150, learning_rate=1e-2, progress=False).losses
    assert losses[-1] < losses[0] / 2


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="name must be one of Transformer"):
        needle_model("LSTM", 9, 64)
    with pytest.raises(ValueError, match="do not fit 5 tokens"):
        drawn(5, 3)
    with pytest.raises(ValueError, match="needs 3996 letters; the text has 3000"):
        drawn(4000, 4)


@pytest.mark.parametrize("name", ["yoco/run", "retention/run"])
def test_a_dry_run_of_the_recorded_trainings_writes_their_rows(name, monkeypatch, tmp_path):
    driver, target = house.driver(name), tmp_path / "rows.json"
    short = dict(needle_steps=2, times=(16,)) if name == "yoco/run" else dict(contexts=(16,))
    driver.main(seeds=(0,), steps=2, longest=256, folder=tmp_path, target=target, **short)
    rows = json.loads(target.read_text())["rows"]
    kinds = {"curve", "held out"} | ({"needle", "needle curve", "gates"} if name == "yoco/run" else {"decode"})
    assert {row["what"] for row in rows} == kinds
    assert all(row["parameters"] for row in rows if row["what"] != "decode")
