"""YOCO against itself: leaving early, decoding, reading by chunks and the window's ring change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effattn_core.attention import attention
from effattn_core.model import LanguageModel, build, configuration, generate
from effattn_core.states import KeyValueCache, SharedKeyValue, WindowCache
from effattn_core.yoco import YOCO

LETTERS = 11
SIZES = {
    "window": dict(window=5, heads=4, key_value_heads=2),
    "gated": dict(mixer="gated", heads=4, key_value_heads=2, value_dim=8),
    "retention": dict(mixer="retention", heads=4, key_value_heads=4),
    "one layer of each": dict(window=3, layers=2, cross_layers=1),
}
TINY = dict(layers=4, cross_layers=2, width=32, head_dim=8, feed_forward=48, context=160)


def made(kind, **changes):
    """A small YOCO in float64 with weights large enough for positions and gates to matter."""
    torch.manual_seed(0)
    model = build(configuration("tiny", LETTERS, **{**TINY, **SIZES[kind], **changes})).double().eval()
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.data *= 8
    return model


def text(length, batch=2, seed=1):
    return torch.randint(LETTERS, (batch, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", SIZES)
@settings(max_examples=15)
@given(length=st.integers(1, 150), chunk=st.integers(1, 160))
def test_leaving_early_gives_what_the_whole_forward_pass_gives(kind, length, chunk):
    """Any prompt length, in one piece and by chunks: the last token's logits to 1e-12."""
    model, tokens = made(kind), text(length)
    with torch.no_grad():
        whole = model(tokens)[0][:, -1:]
        for settings_ in ({}, {"chunk": chunk}):
            early, _ = model.prefill(tokens, **settings_)
            assert (early - whole).abs().max() <= 1e-12 * whole.abs().max()


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("prompt", [1, 4, 31, 64, 65])
def test_decoding_after_a_prefill_gives_the_parallel_form(kind, prompt):
    model, tokens = made(kind), text(90)
    with torch.no_grad():
        logits, states = model.prefill(tokens[:, :prompt])
        steps = [logits]
        for part in tokens[:, prompt:].split(1, 1):
            logits, states = model(part, states)
            steps.append(logits)
        torch.testing.assert_close(torch.cat(steps, 1), model(tokens)[0][:, prompt - 1 :], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", SIZES)
def test_the_cross_decoder_sees_one_token_of_a_prompt(kind):
    model, seen = made(kind), []
    for block in model.cross_blocks:
        block.register_forward_hook(lambda module, given, made: seen.append(given[0].shape[1]))
    model.prefill(text(40), chunk=16)
    assert seen == [1] * len(model.cross_blocks)
    model(text(40))
    assert seen[len(model.cross_blocks) :] == [40] * len(model.cross_blocks)


@pytest.mark.parametrize("kind", SIZES)
def test_no_token_sees_the_future(kind):
    model, tokens = made(kind), text(20)
    changed = tokens.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % LETTERS
    with torch.no_grad():
        before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :12], after[:, :12], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_the_window_alone_would_not_reach_what_the_cross_decoder_reads():
    """Changing the first letter changes the last logits, and would not without the cross-decoder."""
    model, tokens = made("window"), text(60, batch=1)
    changed = tokens.clone()
    changed[0, 0] = (changed[0, 0] + 1) % LETTERS
    with torch.no_grad():
        assert (model(tokens)[0] - model(changed)[0])[0, -1].abs().max() > 1e-6
        alone = LanguageModel(configuration("tiny", LETTERS, **{**TINY, **SIZES["window"], "cross_layers": 0}))
        alone = alone.double().eval()
        assert torch.equal(alone(tokens)[0][0, -1], alone(changed)[0][0, -1])


@pytest.mark.parametrize("window", [1, 3, 16])
@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_the_ring_gives_the_windowed_attention_of_the_whole(window, cuts):
    query, key, value = torch.randn(3, 1, 2, sum(cuts), 8, dtype=torch.float64)
    cache, parts = WindowCache(1, 2, window, 8, dtype=torch.float64), []
    for part in zip(*(each.split(cuts, 2) for each in (query, key, value)), strict=True):
        parts.append(cache.attend(*part))
    torch.testing.assert_close(torch.cat(parts, 2), attention(query, key, value, window=window), rtol=1e-10, atol=1e-10)
    assert cache.length == sum(cuts) and cache.nbytes == 2 * 2 * window * 8 * 8


@pytest.mark.parametrize("kind", SIZES)
def test_the_cache_changes_no_token(kind):
    model, prompt = made(kind), text(7, batch=1)[0]
    texts = [list(generate(model, prompt, 30, use_cache=cached)) for cached in (True, False)]
    assert texts[0] == texts[1] and len(texts[0]) == 30


@pytest.mark.parametrize("kind", SIZES)
def test_every_weight_learns(kind):
    model = made(kind)
    model.loss(text(24), text(24, seed=2)).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().max() > 0]
    assert not idle


def test_one_cache_serves_all_layers_and_is_filled_once():
    model, written, read = made("window"), [], []
    model.writer.register_forward_hook(lambda module, given, made: written.append(made))
    for block in model.cross_blocks:
        block.mixer.register_forward_hook(lambda module, given, made: read.append(given[1]))
    _, states = model.prefill(text(30))
    assert written == [states[-1]] and states[-1].length == 30
    assert len(read) == len(model.cross_blocks) and all(each is states[-1] for each in read)
    assert [type(state) for state in states] == [WindowCache, WindowCache, KeyValueCache]
    assert isinstance(model.read(model.embedding(text(4)), None)[1][-1], SharedKeyValue)


def test_configurations_that_do_not_fit_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="cross_layers must be fewer than the 2 layers; it is 2"):
        configuration("tiny", LETTERS, cross_layers=2)
    with pytest.raises(ValueError, match="use a LanguageModel for none"):
        YOCO(configuration("tiny", LETTERS))
    with pytest.raises(ValueError, match="chunk must be at least 1 token"):
        made("window").prefill(text(4), chunk=0)
    with pytest.raises(ValueError, match="at least one"):
        made("window").prefill(text(0))
    with pytest.raises(ValueError, match="the cache holds 150 of 160 tokens; 20 more do not fit"):
        model = made("window")
        model.prefill(text(20), model.prefill(text(150))[1])


@pytest.mark.parametrize("size", ["small-yoco", "small-yoco-gated"])
def test_the_books_models_have_as_many_parameters_as_its_transformer(size):
    count, wanted = (build(configuration(name, 80)).parameter_count for name in (size, "small"))
    assert abs(count / wanted - 1) < 0.002
