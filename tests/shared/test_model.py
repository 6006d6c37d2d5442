"""The text, the small language model and the training loop."""

import math
import signal

import pytest
import torch

import effattn_core
from effattn_core import data
from effattn_core.model import LanguageModel, configuration, generate, rotate
from effattn_core.train import evaluate, learning_rate_at, train

LETTERS = 11


def tiny(**changes):
    torch.manual_seed(0)
    return LanguageModel(configuration("tiny", LETTERS, **changes))


def batches(seed=1):
    return data.Batches(torch.arange(4000) % LETTERS, 4, 16, seed)


def test_the_plays_are_those_that_the_book_was_written_with():
    text = data.shakespeare()
    letters = data.Characters(text)
    assert "Now, fair Hippolyta, our nuptial hour\n" in text and "**" not in text and len(letters) == 80
    assert letters.decode(letters.encode(text[:500])) == text[:500]


def test_a_corrupted_text_and_a_strange_letter_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(data, "plain", lambda markdown: markdown.replace("love", "hate"))
    with pytest.raises(RuntimeError, match="the text has SHA-256 .* this book wants"):
        data.shakespeare()
    with pytest.raises(ValueError, match="the alphabet of 2 letters has no 'c'"):
        data.Characters("ab").encode("abc")
    with pytest.raises(ValueError, match="need 9; got 3"):
        data.Batches(torch.arange(3), 1, 8)


def test_targets_are_inputs_one_step_ahead():
    tokens, targets = next(data.Batches(torch.arange(100), 3, 10))
    assert torch.equal(tokens + 1, targets) and tokens.shape == (3, 10)


def test_an_untrained_model_is_as_good_as_guessing():
    tokens, targets = next(batches())
    assert abs(tiny().loss(tokens, targets).item() - math.log(LETTERS)) < 0.1


def test_no_token_sees_the_future():
    model, tokens = tiny().eval(), torch.randint(LETTERS, (1, 20))
    changed = tokens.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % LETTERS
    assert torch.equal(model(tokens)[0][:, :12], model(changed)[0][:, :12])
    assert not torch.allclose(model(tokens)[0][:, 12:], model(changed)[0][:, 12:])


def test_rotary_scores_depend_on_distance_alone():
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    scores = [(rotate(query, first + 5, 100.0) * rotate(key, first, 100.0)).sum() for first in (0, 3, 11)]
    torch.testing.assert_close(scores[1:], scores[:1] * 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, dict(window=5, sinks=2)], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_changes_no_token(changes, temperature):
    model, prompt = tiny(**changes), torch.tensor([1, 2, 3])
    texts = [
        list(generate(model, prompt, 30, use_cache=cached, temperature=temperature, generator=dice))
        for cached, dice in ((kept, torch.Generator().manual_seed(4)) for kept in (True, False))
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 30


def test_decoding_gives_the_logits_of_the_whole_text():
    """On logits, with weights large enough for positions to matter: the likeliest token hides a wrong rotation."""
    model, tokens = tiny(window=9, sinks=2).double().eval(), torch.randint(LETTERS, (2, 20))
    for weight in model.parameters():
        weight.data *= 8
    states, steps = model.new_states(2), []
    with torch.no_grad():
        for part in tokens.split([7, 1, 1, 5, 6], 1):
            logits, states = model(part, states)
            steps.append(logits)
        torch.testing.assert_close(torch.cat(steps, 1), model(tokens)[0], rtol=1e-5, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="key_value_heads must divide heads"):
        configuration("tiny", 5, key_value_heads=3)
    with pytest.raises(ValueError, match="size must be one of"):
        configuration("huge", 5)
    with pytest.raises(ValueError, match="do not fit a context of 64"):
        list(generate(tiny(), torch.tensor([1]), 64))
    with pytest.raises(ValueError, match="at least one"):
        tiny()(torch.zeros(1, 0, dtype=torch.int64))


def test_training_learns_a_pattern():
    model = tiny()
    history = train(model, batches(), steps=60, learning_rate=1e-2, progress=False)
    assert history.finished and history.losses[-1] < 0.5 < history.losses[0]
    assert evaluate(model, torch.arange(400) % LETTERS) < 0.5


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    settings = dict(steps=12, learning_rate=1e-2, progress=False)
    whole = tiny()
    losses = train(whole, batches(), **settings).losses
    path, calls = tmp_path / "run" / "checkpoint.pt", []
    broken = tiny()
    step = torch.optim.AdamW.step

    def interrupt(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupt)
    first = train(broken, batches(), checkpoint=path, every=2, **settings)
    monkeypatch.undo()
    assert not first.finished and len(first.losses) == 6
    other = tiny()
    second = train(other, batches(seed=77), checkpoint=path, **settings)
    assert second.finished and second.losses == losses
    for ours, theirs in zip(other.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_broken_checkpoint_and_a_loss_that_explodes_are_said(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half a file")
    with pytest.raises(RuntimeError, match="delete it to start again"):
        train(tiny(), batches(), steps=1, checkpoint=path, progress=False)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        model = tiny()
        model.head.weight.data[:] = float("inf")
        train(model, batches(), steps=1, progress=False)


def test_the_schedule_warms_up_then_falls_to_a_tenth():
    rates = [learning_rate_at(step, steps=100, peak=1.0, warmup=10) for step in range(101)]
    assert rates[0] == 0.1 and rates[10] == 1.0 and abs(rates[100] - 0.1) < 1e-9
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_chapter_starts_the_same_way_each_time(capsys):
    drawn = []
    for _ in range(2):
        effattn_core.reproducible(3)
        drawn.append(torch.rand(2))
    assert torch.equal(*drawn) and "Triton kernels are" in capsys.readouterr().out
