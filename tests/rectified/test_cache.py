"""Caches that read sparsely: rectified they are the dense cache again, and each neighbour reads what it says."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from effattn_core.attention import attention
from effattn_core.layers import AttentionMixer
from effattn_core.model import Configuration, LanguageModel
from effattn_core.model import generate as dense_generate
from effattn_core.rectified import Choice, block_bounds, block_means
from effattn_core.rectified import costs as costs_rectified
from effattn_core.rectified.cache import (
    RectifiedCache,
    RewindableCache,
    SparseDecoder,
    follow,
    generate,
    kl_divergence,
    relative_error,
    states_of,
)
from effattn_core.rectified.neighbours import METHODS, StreamingCache, cache_maker, states_for
from effattn_core.states import State


def small_model(context=96, **changes):
    torch.manual_seed(0)
    sizes = Configuration(20, width=48, layers=4, heads=6, key_value_heads=2, head_dim=8, feed_forward=64,
                          context=context, **changes)  # fmt: skip
    model = LanguageModel(sizes).double().eval()
    with torch.no_grad():
        for weight in model.parameters():  # large enough for attention to choose
            weight *= 4 if weight.ndim == 2 else 1
    return model, torch.randint(20, (2, context))


def dense(model, tokens):
    states = states_of(model, len(tokens), RewindableCache)
    with torch.no_grad():
        return model(tokens, states)


SPARSE = dict(block_size=4, active=0.1, least=2)


@pytest.mark.parametrize("period", [1, 8, 24])
def test_right_after_a_rectification_the_whole_cache_is_the_dense_cache(period):
    model, tokens = small_model()
    _, exact = dense(model, tokens)
    checked = []

    def compare(position, decoder):
        if decoder.unrectified:
            return
        for kept, true in zip(decoder.states, exact, strict=True):
            for name in ("key", "value"):
                mine, theirs = getattr(kept, name), getattr(true, name)[:, :, : position + 1]
                torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
            for mine, made in zip(kept.known, block_bounds(kept.key, 4), strict=True):
                assert torch.equal(mine, made)
        checked.append(position)

    states = states_of(model, 2, RectifiedCache, choice=Choice(**SPARSE))
    follow(model, tokens, states, prompt=23, period=period, each=compare)
    assert checked == list(range(22 + period, 96, period))


def test_without_rectification_the_cache_drifts_from_the_second_layer_on():
    model, tokens = small_model()
    _, exact = dense(model, tokens)
    states = states_of(model, 2, RectifiedCache, choice=Choice(**SPARSE))
    follow(model, tokens, states, prompt=23)
    errors = [relative_error(a.value, b.value)[:, 23:].mean().item() for a, b in zip(states, exact, strict=True)]
    assert errors[0] < 1e-12 and min(errors[1:]) > 1e-3
    before = [relative_error(a.value, b.value)[:, :23].max().item() for a, b in zip(states, exact, strict=True)]
    assert max(before) < 1e-12  # the prompt was read densely


@pytest.mark.parametrize("method", METHODS)
def test_reading_everything_is_dense_decoding_whatever_the_method(method):
    model, tokens = small_model()
    logits, _ = dense(model, tokens)
    everything = {"dense": {}, "streaming": dict(window=96)}.get(method, dict(block_size=4, active=1.0))
    states = states_for(model, method, 2, **everything)
    ours = follow(model, tokens, states, prompt=20, period=16)
    torch.testing.assert_close(ours, logits[:, 20:], rtol=0, atol=1e-11)


def test_bounds_kept_while_decoding_are_those_of_the_keys():
    cache = RectifiedCache(1, 2, 50, 4, choice=Choice(block_size=8, least=1), dtype=torch.float64)
    means = RectifiedCache(1, 2, 50, 4, choice=Choice(block_size=8, gate="mean"), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for new in (5, 1, 1, 1, 1, 20, 1, 1, 1, 3):
        key = torch.randn(1, 2, new, 4, dtype=torch.float64, generator=generator)
        cache.append(key, key), means.append(key, key)
        for mine, made in zip(cache.known, block_bounds(cache.key, 8), strict=True):
            assert torch.equal(mine, made)
        torch.testing.assert_close(means.known[0], block_means(means.key, 8))
    assert cache.nbytes == 2 * 2 * 50 * 4 * 8 + 2 * 2 * 7 * 4 * 8


@pytest.mark.parametrize("count", [1, 3, 9])
def test_keys_that_are_overwritten_leave_no_trace_in_the_bounds(count):
    cache = RectifiedCache(1, 1, 40, 4, choice=Choice(block_size=8, least=1), dtype=torch.float64)
    extreme = 100 * torch.ones(1, 1, count, 4, dtype=torch.float64)
    first = torch.randn(1, 1, 11, 4, dtype=torch.float64)
    cache.append(first, first)
    for token in extreme.split(1, 2):
        cache.append(token, token)
    cache.rewind(count)
    query = torch.zeros(1, 2, count, 4, dtype=torch.float64)
    cache.attend(query, extreme / 1e4, extreme)
    for mine, made in zip(cache.known, block_bounds(cache.key, 8), strict=True):
        assert torch.equal(mine, made)
    assert cache.known[1].max() < 10 and not cache.rewound
    with pytest.raises(ValueError, match="a cache of .* tokens cannot be rewound by 99"):
        cache.rewind(99)


def test_generation_reads_everything_as_the_model_does_and_rectifies_what_is_cached():
    model, tokens = small_model()
    prompt = tokens[0, :13]
    everything = states_of(model, 1, RectifiedCache, choice=Choice(block_size=4, active=1.0))
    ours = list(generate(model, prompt, 40, everything, period=7))
    assert ours == list(dense_generate(model, prompt, 40))
    assert [state.length for state in everything] == [13 + 40 - 1] * 4  # the newest token is not cached yet
    with pytest.raises(ValueError, match="13 and 90 new tokens do not fit a context of 96"):
        next(generate(model, prompt, 90, everything))
    with pytest.raises(ValueError, match="period must be 0 .* it is -1"):
        SparseDecoder(model, everything, period=-1)
    dice = [list(generate(model, prompt, 8, states_for(model, "dense"), temperature=1.0,
                          generator=torch.Generator().manual_seed(3))) for _ in range(2)]  # fmt: skip
    assert dice[0] == dice[1]


def test_a_layer_with_a_window_is_left_as_it_is_and_rectified_with_the_others():
    model, tokens = small_model()
    model.blocks[1].mixer.sizes = dataclasses.replace(model.sizes, window=5, sinks=1)
    _, exact = dense(model, tokens)
    states = states_of(model, 2, RectifiedCache, choice=Choice(**SPARSE))
    assert type(states[1]) is RewindableCache and type(states[2]) is RectifiedCache
    follow(model, tokens, states, prompt=24, period=12)
    for kept, true in zip(states, exact, strict=True):
        torch.testing.assert_close(kept.key, true.key, rtol=0, atol=1e-12)
    plain, _ = model(tokens)
    torch.testing.assert_close(plain, dense(model, tokens)[0])


def test_the_model_hands_its_queries_keys_and_values_to_a_state_that_attends():
    class Zero(State):
        length, seen = 0, 0

        def attend(self, query, key, value):
            self.length += query.shape[2]
            self.seen += key.shape[2]
            return torch.zeros_like(query)

    sizes = Configuration(20, width=48, heads=6, key_value_heads=2, head_dim=8)
    state, mixer = Zero(), AttentionMixer(sizes)
    output, same = mixer(torch.randn(2, 7, 48), state)
    assert same is state and state.seen == 7 and not output.any() and output.shape == (2, 7, 48)


def one_step(cache, time, group=3, size=8):
    generator = torch.Generator().manual_seed(1)
    key = torch.randn(2, 2, time, size, dtype=torch.float64, generator=generator)
    query = torch.randn(2, 2 * group, 1, size, dtype=torch.float64, generator=generator)
    cache.append(key, -key)
    return cache.look(query), query, key


def test_bytes_of_a_step_are_the_formula_times_the_cache_for_whole_blocks():
    shape, wide = (2, 2, 128, 8), dict(dtype=torch.float64)
    cache = RectifiedCache(*shape, choice=Choice(block_size=4, active=0.25, least=1), **wide)
    one_step(cache, 128)
    whole, share = cache.key.nbytes + cache.value.nbytes, costs_rectified.share(4, 0.25, 0)
    assert cache.step_bytes() == {"descriptors": share.descriptors * whole, "blocks": share.blocks * whole}
    assert cache.blocks.shape == (2, 2, 8)
    mean = RectifiedCache(*shape, choice=Choice(block_size=4, active=0.25, least=1, gate="mean"), **wide)
    one_step(mean, 128)
    assert mean.step_bytes()["descriptors"] == whole / 8  # one vector a block
    ragged = RectifiedCache(*shape, choice=Choice(block_size=4, active=0.0, least=1), **wide)
    one_step(ragged, 126)
    assert ragged.step_bytes()["blocks"] == 2 * 2 * 2 * 2 * 8 * 8  # two tokens in the last block
    full = RewindableCache(*shape, **wide)
    one_step(full, 100)
    assert full.step_bytes() == {"descriptors": 0, "blocks": full.key.nbytes + full.value.nbytes}


def test_quest_reads_a_list_a_head_and_a_row_that_two_heads_want_counts_once():
    make, settings = cache_maker("quest", block_size=4, active=0.25, least=1)
    cache = make(2, 2, 128, 8, dtype=torch.float64, **settings)
    output, query, key = one_step(cache, 128)
    assert cache.blocks.shape == (2, 6, 8)
    union = [[len(set(cache.blocks[b, 3 * h : 3 * h + 3].flatten().tolist())) for h in range(2)] for b in range(2)]
    assert cache.rows_read().tolist() == [[4 * each for each in row] for row in union]
    seen = torch.zeros(2, 6, 1, 128, dtype=torch.bool)
    for b in range(2):
        for h in range(6):
            for block in cache.blocks[b, h].tolist():
                seen[b, h, 0, 4 * block : 4 * block + 4] = True
    wanted = functional.scaled_dot_product_attention(query, key, -key, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(output, wanted)


def test_streaming_reads_the_first_keys_and_the_newest():
    cache = StreamingCache(2, 2, 128, 8, sinks=4, window=20, dtype=torch.float64)
    output, query, key = one_step(cache, 128)
    near = torch.cat([key[:, :, :4], key[:, :, 112:]], 2)
    torch.testing.assert_close(output, attention(query, near, -near, causal=False))
    assert cache.step_bytes() == {"descriptors": 0, "blocks": 20 * 2 * 8 * 8 * 4}
    with pytest.raises(ValueError, match="a window of 4 keys must have room for more than its 4 sinks"):
        StreamingCache(1, 1, 8, 8, sinks=4, window=4)
    with pytest.raises(ValueError, match="method must be one of .* 'snap'"):
        cache_maker("snap")


def test_the_divergence_is_zero_for_equal_and_positive_else():
    logits = torch.randn(3, 5, 7)
    assert kl_divergence(logits, logits + 3).abs().max() < 1e-6
    other = logits.flip(-1)
    wanted = functional.kl_div(other.log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(kl_divergence(logits, other).float(), wanted)
