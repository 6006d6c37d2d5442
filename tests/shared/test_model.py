"""The text, the small language model and the training loop."""

import copy
import math
import os
import signal
import stat

import pytest
import torch

import effattn_core
from effattn_core import data
from effattn_core.measurements import once
from effattn_core.model import LanguageModel, build, configuration, generate, sample
from effattn_core.positions import rotate
from effattn_core.train import evaluate, learning_rate_at, train
from kernels import bench
from kernels.cache import whole_file

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


@pytest.mark.parametrize("temperature", [-1.0, -1, math.nan, math.inf, None])
def test_a_temperature_that_is_none_is_refused_and_not_read_as_0(temperature):
    with pytest.raises(ValueError, match=f"temperature must be a finite number of at least 0.*; it is {temperature}"):
        sample(torch.zeros(1, LETTERS), temperature)


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_law_are_refused_and_a_ban_is_not(temperature, bad):
    logits = torch.zeros(3, LETTERS)
    logits[1, 4], logits[2, :] = bad, -math.inf
    with pytest.raises(ValueError, match=f"largest logit must be finite; that of row 1 is {bad}"):
        sample(logits[:2], temperature)
    with pytest.raises(ValueError, match="that of row 0 is -inf"):
        sample(logits[2:], temperature)
    logits[2, 7] = 0
    assert sample(logits[2:], temperature).tolist() == [[7]]
    model = tiny()
    model.head.weight.data[2] = bad
    with pytest.raises(ValueError, match="largest logit must be finite"):
        list(generate(model, torch.tensor([1, 2, 3]), 5, temperature=temperature))


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
    for content in (b"half a file", b""):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match="is no checkpoint, or half of one .*: give another path, or move it"):
            train(tiny(), batches(), steps=1, checkpoint=path, progress=False)
        assert path.read_bytes() == content
    torch.save({"rows": 3}, path)
    with pytest.raises(RuntimeError, match="is no checkpoint, or half of one .KeyError"):
        train(tiny(), batches(), steps=1, checkpoint=path, progress=False)
    with pytest.raises(RuntimeError, match="cannot be read: Is a directory"):
        train(tiny(), batches(), steps=1, checkpoint=tmp_path, progress=False)
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


def test_a_checkpoint_of_another_model_is_named_as_that_and_left_alone(tmp_path):
    path = tmp_path / "checkpoint.pt"
    train(tiny(), batches(), steps=1, checkpoint=path, progress=False)
    content = path.read_bytes()
    for other in (tiny(width=32), tiny(layers=1)):
        with pytest.raises(RuntimeError, match="is of another model or optimizer: go on with the sizes"):
            train(other, batches(), steps=2, checkpoint=path, progress=False)
    assert path.read_bytes() == content


@pytest.mark.skipif(torch.cuda.is_available(), reason="tried where what a GPU saved has no GPU to go to")
def test_what_a_gpu_saved_goes_on_on_a_cpu(tmp_path, monkeypatch):
    """A checkpoint, and rows with tensors, whose storages say that they lay on a GPU."""
    for place in ("cpu", "cuda:0"):
        with monkeypatch.context() as patched:
            patched.setattr(torch.serialization, "location_tag", lambda storage, place=place: place)
            train(tiny(), batches(), steps=3, checkpoint=tmp_path / f"{place}.pt", progress=False)
            torch.save({"importance": torch.arange(3.0)}, tmp_path / "stored.pt")
    here, gpu = (
        train(tiny(), batches(seed=77), steps=6, checkpoint=tmp_path / f"{place}.pt", progress=False)
        for place in ("cpu", "cuda:0")
    )
    assert here.finished and here.losses == gpu.losses
    assert once(tmp_path / "stored.pt", None)["importance"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_stored_files_have_the_mode_that_the_user_gives_files(tmp_path, mask, capsys):
    before = os.umask(mask)
    try:
        train(tiny(), batches(), steps=1, checkpoint=tmp_path / "run" / "checkpoint.pt", progress=False)
        once(tmp_path / "rows.pt", lambda: [1])
        bench.write_measurement(tmp_path / "rows.json", {}, [1])
    finally:
        os.umask(before)
    for path in (tmp_path / "run" / "checkpoint.pt", tmp_path / "rows.pt", tmp_path / "rows.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert len(list(tmp_path.rglob("*"))) == 4  # nothing is left aside


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    (tmp_path / "kept").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "kept") as aside:
        aside.write_text("new")
        raise ZeroDivisionError
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


CONSTANT = {
    "retention": dict(size="small-retention", heads=8, key_value_heads=8),
    "gated": dict(size="small-yoco-gated"),
    "recurrent": dict(size="tiny", mixer="recurrent", rule="retention", heads=8, key_value_heads=8),
    "hybrid": dict(size="tiny", mixer="recurrent", rule="retention", attention_layers=(1,)),
    "loops": dict(size="small-yoco", loops=2, reinject=True),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constants_keep_their_precision_whatever_is_done_to_their_module(name):
    """The decays of eight heads go to 0.99976, which bfloat16 rounds to 1: a memory that never fades."""
    torch.manual_seed(0)
    model = build(configuration(vocabulary=9, **CONSTANT[name]))
    exact = {name: buffer.clone() for name, buffer in model.named_buffers()}
    stored = set(model.state_dict())
    tokens = torch.randint(9, (2, 70))
    wanted = model(tokens)[0]
    if name in ("retention", "recurrent"):
        decay = exact["blocks.0.mixer.decay"] if name == "retention" else exact["blocks.0.mixer.log_decay"].exp()
        assert decay[4:].double().sub(1 - 2.0 ** -torch.arange(9.0, 13).double()).abs().max() < 1e-7
    with torch.device("meta"):
        empty = build(configuration(vocabulary=9, **CONSTANT[name]))
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(model.state_dict())
    casts = [
        copy.deepcopy(model).bfloat16(),
        copy.deepcopy(model).half().float(),
        copy.deepcopy(model).double(),
        filled,
    ]
    for cast in casts:
        found = dict(cast.named_buffers())
        assert found.keys() == exact.keys() and set(cast.state_dict()) == stored
        for buffer, value in exact.items():
            assert torch.equal(found[buffer].double(), value.double()), buffer
    torch.testing.assert_close(filled(tokens)[0], wanted, rtol=0, atol=0)
    back = copy.deepcopy(model).bfloat16().float()
    back.load_state_dict(model.state_dict())
    torch.testing.assert_close(back(tokens)[0], wanted, rtol=0, atol=0)


def test_a_layer_in_bfloat16_fades_as_the_exact_one():
    """Four of these eight heads never forgot when the decays were rounded with the weights."""
    torch.manual_seed(0)
    mixer = build(configuration("small-retention", 9, heads=8, key_value_heads=8)).blocks[0].mixer
    hidden = torch.randn(1, 256, 96)
    exact = mixer(hidden)[0]
    rounded = copy.deepcopy(mixer).bfloat16()(hidden.bfloat16())[0].float()
    assert (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    "settings",
    [dict(size="small"), dict(size="small", window=5, sinks=1), dict(size="small-retention"), dict(size="small-yoco"),
     dict(size="small-yoco-gated"), dict(size="tiny", mixer="recurrent", rule="delta", heads=2),
     dict(size="tiny", mixer="recurrent", rule="delta", heads=2, attention_layers=(1,))],
)  # fmt: skip
def test_texts_of_different_lengths_train_as_each_alone(settings):
    torch.manual_seed(0)
    model = build(configuration(vocabulary=9, **settings)).double()
    texts = [torch.randint(9, (length,)) for length in (30, 2, 17)]
    tokens, targets = data.padded(texts)
    assert tokens.shape == targets.shape == (3, 29) and (targets == data.IGNORED).sum() == 3 * 29 - 29 - 1 - 16
    alone = [model.loss(text[None, :-1], text[None, 1:]) * (len(text) - 1) for text in texts]
    wanted = sum(alone) / (29 + 1 + 16)
    torch.testing.assert_close(model.loss(tokens, targets), wanted, rtol=1e-12, atol=0)
    ours, theirs = (
        torch.autograd.grad(loss, list(model.parameters())) for loss in (model.loss(tokens, targets), wanted)
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-14)


def test_padding_is_refused_where_it_can_be_seen():
    model = tiny()
    for call in (model, model.prefill, lambda tokens: model.loss(tokens, tokens)):
        with pytest.raises(ValueError, match="tokens must be 0 or more; one is -1. Padding is not understood"):
            call(torch.tensor([[-1, -1, 3], [4, 5, 6]]))
    with pytest.raises(ValueError, match=r"each text needs a token and its target; the lengths are \[3, 1\]"):
        data.padded([torch.arange(3), torch.arange(1)])
