"""Learned masks and their drivers: stages that learn, a needle in its order, dry runs, a wrong cache refused."""

import json

import pytest
import torch
from support import house

from effattn_core import channels, data
from effattn_core.channels import needle as channels_needle
from effattn_core.channels import training as channels_training
from effattn_core.model import LanguageModel, configuration
from effattn_core.train import train
from kernels import bench, runtime

SIZES = dict(head_dim=8, heads=4, key_value_heads=2, context=48)
ENDS = dict(sinks=1, recent=4)


def batches(seed=1):
    """Letters that repeat after eleven: a model must look far enough back."""
    return data.Batches(torch.arange(4000) % 11 * torch.arange(4000).remainder(7) % 11, 8, 48, seed)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = LanguageModel(configuration("tiny", 11, **SIZES))
    train(made, batches(), steps=60, learning_rate=1e-2, progress=False)
    return made.eval()


def test_a_factor_of_ones_is_the_dense_model_and_a_state_reads_its_prompt_whole(model):
    tokens = next(batches())[0]
    ones = torch.ones(2, 2, 8)
    dense = channels_training.hidden_states(model, tokens)
    torch.testing.assert_close(channels_training.hidden_states(model, tokens, ones, **ENDS), dense, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.head(dense), model(tokens)[0])
    kl, before, after = channels_training.divergence(model, tokens, ones.bool(), **ENDS)
    assert abs(kl) < 1e-6 and abs(before - after) < 1e-5
    states = [channels_training.MaskedState(layer, prompt=30, **ENDS) for layer in 0 * ones]
    mixed = model(tokens, states)[0]
    assert torch.allclose(mixed[:, :30], model(tokens)[0][:, :30], atol=1e-4)
    assert not torch.allclose(mixed[:, 30:], model(tokens)[0][:, 30:], atol=1e-2)


def test_both_stages_learn_and_leave_the_model_as_it_was(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = dict(progress=False, **ENDS)
    first = channels_training.learn(model, batches(2), steps=25, **settings)
    assert first.shape == (2, 2, 8) and first.min() >= 0 and first.max() <= 1 and first.std() > 0.05
    hard = channels_training.learn(model, batches(3), first, steps=5, pruned=0.5, align=2, penalty=0.0, **settings)
    assert not torch.equal(hard, first)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None or not weight.grad.isnan().any()
               for weight in model.parameters())  # fmt: skip
    # Without a price nothing is pushed down; straight through, channels that are off can come back.
    free = channels_training.learn(model, batches(2), steps=10, penalty=0.0, **settings)
    assert free.mean() > first.mean()
    off = 0.01 * torch.rand(2, 2, 8, generator=torch.Generator().manual_seed(0))  # no ties: the mask is what it says
    off[:, :, 0] = 0.5
    hidden = ~channels.build_mask(off, 0.8)
    back = channels_training.learn(model, batches(2), off, steps=5, pruned=0.8, penalty=0.0, **settings)
    assert hidden.sum() > 20 and (back[hidden] > off[hidden]).any()


def test_rules_without_training_rank_as_they_say(model):
    shape = (2, 2, 8)
    slow, fast = (channels_training.by_frequency(shape, fastest=each) for each in (False, True))
    assert channels.build_mask(slow, 0.5)[0, 0].tolist() == [False] * 4 + [True] * 4
    assert channels.build_mask(fast, 0.5)[1, 1].tolist() == [True] * 4 + [False] * 4
    tokens = next(batches())[0]
    sizes = channels_training.by_norm(model, tokens)
    assert sizes.shape == shape and torch.allclose(sizes.amax((1, 2)), torch.ones(2)) and (sizes >= 0).all()
    quiet = LanguageModel(configuration("tiny", 11, **SIZES))
    quiet.load_state_dict(model.state_dict())
    quiet.blocks[0].mixer.key.weight.data.unflatten(0, (2, 8))[1, 4:6] = 0  # a pair, so that turning keeps it zero
    assert (channels_training.by_norm(quiet, tokens)[0, 1, 4:6] == 0).all()


def test_the_needle_is_found_by_slow_pairs_and_a_learned_mask_is_best():
    generator = torch.Generator().manual_seed(0)
    rows = channels_needle.compare(channels_needle.learn(generator, steps=80), (0.3, 0.5, 0.7), generator)
    found = {(row["rule"], row["pruned"]): row["error"] for row in rows}
    for share in (0.3, 0.5, 0.7):
        errors = [found[rule, share] for rule in channels_needle.RULES]
        assert errors == sorted(errors), share
    assert 0.1 < rows[-1]["error"] < 0.3


@pytest.fixture
def drivers(monkeypatch):
    """(run.py, bench.py) as the commands find them, on the CPU anywhere, a few repeats being enough."""
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    compare = bench.compare
    quick = dict(repeats=3, warmup=0, progress=False)
    monkeypatch.setattr(bench, "compare", lambda *given, **settings: compare(*given, **settings | quick))
    timed = house.driver("channels/bench")
    return timed.run, timed


SMALL = dict(steps=3, learn=2, harden=1)


def test_dry_runs_record_every_rule_and_length_and_go_on_from_what_is_stored(drivers, tmp_path, monkeypatch):
    run, timing = drivers
    arguments = dict(seeds=(0,), needle=dict(shares=(0.5,), steps=2), texts=2, folder=tmp_path, **SMALL)
    run.main(target=tmp_path / "run.json", **arguments)
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    rules = {row["rule"] for row in rows if row["what"] == "text"}
    assert rules == {
        *run.STAGES,
        "learned, equal counts",
        "sizes of q and k",
        "random",
        "slowest pairs",
        "fastest pairs",
    }
    assert {row["pruned"] for row in rows if row["what"] == "text"} == set(run.SHARES)
    assert [row["stage"] for row in rows if row["what"] == "importance"] == ["1", *(f"2 {each}" for each in run.SHARES)]

    monkeypatch.setattr(run, "needle_rows", house.never)
    monkeypatch.setattr(run, "importances", house.never)
    run.main(target=tmp_path / "again.json", **arguments)
    assert json.loads((tmp_path / "again.json").read_text())["rows"] == rows

    timing.main(contexts=(160, 200), letters=3, folder=tmp_path, target=tmp_path / "bench.json", **SMALL)
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert {row["tokens"] for row in rows} == {160, 200} and len(rows) == 2 * (1 + len(run.SHARES))
    for row in rows:
        assert {"method", "median", "lower_quartile", "upper_quartile", "bytes", "kl", "kept"} <= set(row)
        dense = next(each for each in rows if each["tokens"] == row["tokens"] and each["method"] == "dense")
        assert dense["bytes"] == 2 * 2 * 4 * 32 * 4 * row["tokens"] >= row["bytes"]


def test_a_wrong_cache_is_refused_and_never_timed(drivers, tmp_path, monkeypatch):
    run, timing = drivers
    start = timing.start

    def misled(*given):
        """The caches of a method, whose queries will be gathered by the channels in the wrong order."""
        model, states = start(*given)
        for state in states:
            state.channels = [each.flip(-1) for each in getattr(state, "channels", ())]
        return model, states

    monkeypatch.setattr(timing, "start", misled)
    monkeypatch.setattr(bench, "compare", None)
    sharp = run.trained

    def louder(*given):
        model = sharp(*given)
        for weight in model.parameters():
            weight.data *= 6
        return model

    monkeypatch.setattr(run, "trained", louder)
    with pytest.raises(AssertionError, match="kept: its log-probabilities are off by .* it is not timed"):
        timing.main(contexts=(160,), letters=3, folder=tmp_path, target=tmp_path / "bench.json", **SMALL)
    assert not (tmp_path / "bench.json").exists()
