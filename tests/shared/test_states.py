"""States keep their protocol: what they hold, what they answer, and what they refuse."""

import pytest
import torch

from effattn_core.attention import attention
from effattn_core.channels import ChannelCache, plan
from effattn_core.indexing.model import IndexedYOCO
from effattn_core.model import LanguageModel, build, configuration
from effattn_core.rectified import Choice
from effattn_core.rectified.cache import RectifiedCache
from effattn_core.states import KeyValueCache, WindowCache, kept_bytes


def drawn(time, heads=2, size=32, batch=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, batch, heads, time, size, generator=generator, dtype=dtype)


def test_decoding_with_the_cache_gives_the_whole_sequence():
    query, key, value = drawn(20)
    cache = KeyValueCache(2, 2, 20, 32, window=7, sinks=2, dtype=torch.float64)
    steps = [cache.attend(*(each[:, :, token : token + 1] for each in (query, key, value))) for token in range(20)]
    torch.testing.assert_close(torch.cat(steps, 2), attention(query, key, value, window=7, sinks=2))
    torch.testing.assert_close(cache.look(query[:, :, -3:]), attention(query, key, value, window=7, sinks=2)[:, :, -3:])
    assert cache.nbytes == cache.kept_bytes == 2 * 2 * 2 * 20 * 32 * 8
    with pytest.raises(ValueError, match="holds 20 of 20 tokens; 1 more do not fit"):
        cache.append(key[:, :, :1], value[:, :, :1])


def test_a_cache_counts_all_that_it_holds_of_each_token():
    """Keys, values, and what a subclass adds: index keys of 32 numbers, bounds of blocks."""
    torch.manual_seed(0)
    model = IndexedYOCO(configuration("small-yoco", 9))
    with torch.no_grad():
        shared = model.prefill(torch.randint(9, (1, 15)))[1][-1]
    assert kept_bytes([shared]) == 4 * 15 * (2 * 2 * 32 + 32)  # 9,600
    assert shared.nbytes == 4 * 256 * (2 * 2 * 32 + 32) and shared.grows
    cache = RectifiedCache(1, 1, 64, 8, choice=Choice(block_size=8))
    cache.append(*drawn(12, 1, 8, 1, dtype=torch.float32)[1:])
    assert kept_bytes([cache]) == 4 * (2 * 12 * 8 + 2 * 2 * 8) == 896  # two blocks have a lowest and a highest key
    thin = ChannelCache(plan(torch.tensor([[True, False] * 4])), 1, 64, 8, sinks=1, recent=4, chunk=4)
    thin.take_in(*drawn(14, 1, 8, 1, dtype=torch.float32)[1:])
    assert kept_bytes([thin]) == 4 * (6 * 2 * 8 + 8 * (4 + 8))


@pytest.mark.parametrize("size", ["small", "small-retention", "small-yoco", "small-yoco-gated"])
def test_what_grows_with_the_text_says_so(size):
    model = build(configuration(size, 9))
    with torch.no_grad():
        short, long = ([each.kept_bytes for each in model.prefill(torch.zeros(1, time).long())[1]] for time in (33, 66))
    assert [now > then for then, now in zip(short, long, strict=True)] == [each.grows for each in model.new_states()]


def test_a_layer_refuses_a_state_of_another_window():
    model = LanguageModel(configuration("tiny", 9, window=8))
    states = [KeyValueCache(1, 2, 64, 16) for _ in model.blocks]
    with pytest.raises(ValueError, match="the layer's mask, {'window': 8, 'sinks': 0}; it has {'window': None"):
        model(torch.zeros(1, 3).long(), states)
    states = [KeyValueCache(1, 2, 64, 16, window=8) for _ in model.blocks]
    torch.testing.assert_close(model(torch.arange(9)[None], states)[0], model(torch.arange(9)[None])[0])
    assert isinstance(model.new_states()[0], WindowCache)
