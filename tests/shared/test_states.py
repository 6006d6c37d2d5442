"""States keep their protocol: what they hold, what they answer, and what they refuse."""

import copy
import functools
from contextlib import nullcontext

import pytest
import torch

from effattn_core.attention import attention
from effattn_core.channels import ChannelCache, deploy, plan
from effattn_core.channels import new_states as channel_states
from effattn_core.focus import Added
from effattn_core.indexing.model import IndexedYOCO
from effattn_core.model import LanguageModel, build, configuration
from effattn_core.rectified import Choice
from effattn_core.rectified.cache import RectifiedCache
from effattn_core.rectified.neighbours import METHODS, states_for
from effattn_core.speculation.states import tree_states
from effattn_core.states import KeyValueCache, WindowCache, kept_bytes, sees_all


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


def text(time, batch=1, seed=0, letters=9):
    return torch.randint(letters, (batch, time), generator=torch.Generator().manual_seed(seed))


def made(size, **changes):
    torch.manual_seed(0)
    return build(configuration(size, 9, **{"context": 64, **changes})).double().eval().requires_grad_(False)


def indexed():
    torch.manual_seed(0)
    sizes = configuration("small-yoco", 9, context=64)
    return IndexedYOCO(sizes, top_k=8, index_heads=2, index_dim=8).double().eval().requires_grad_(False)


def thin(model):
    """(a model, its states) whose middle is pruned from the 17th token on."""
    kept = torch.rand(model.sizes.layers, 2, 32, generator=torch.Generator().manual_seed(1)) < 0.5
    moved, plans = deploy(model, kept)
    return moved, lambda batch: channel_states(moved, plans, batch, sinks=2, recent=8, chunk=8)


def cases():
    """name -> (model, batch -> states): every kind of state that decodes."""
    small = made("small")
    found = {
        "whole": (small, small.new_states),
        "window and sinks": (model := made("small", window=9, sinks=2), model.new_states),
        "window": (model := made("small", window=28), model.new_states),
        "YOCO": (model := made("small-yoco", window=28), model.new_states),
        "index": (model := indexed(), model.new_states),
        "channels": thin(small),
        "retention": (model := made("small-retention"), model.new_states),
        "gated": (model := made("small-yoco-gated"), model.new_states),
        "delta": (model := made("tiny", mixer="recurrent", rule="delta", heads=2), model.new_states),
        "loops": (model := made("small-yoco", window=28, loops=2), model.new_states),
    }
    for method in METHODS:
        settings = dict(window=12) if method == "streaming" else dict(block_size=4, active=0.3, least=1)
        found[method] = small, functools.partial(states_for, small, method, **({} if method == "dense" else settings))
    return found


CASES = cases()
MEMORIES = {"retention", "gated", "delta"}
SPARSE = {"channels", *METHODS} - {"dense"}  # several tokens at once read densely there


@pytest.mark.parametrize("case", CASES)
def test_reordered_states_go_on_as_those_of_the_reordered_texts(case):
    """As a beam search reorders: an item twice, one gone, more than there were."""
    model, new_states = CASES[case]
    tokens, rows = text(20, batch=3), torch.tensor([2, 0, 2, 2])
    _, states = model.prefill(tokens, new_states(3))
    states = [state.reorder(rows) for state in states]
    _, fresh = model.prefill(tokens[rows], new_states(4))
    for place in range(4):
        token = text(1, batch=4, seed=place)
        (ours, states), (wanted, fresh) = model(token, states), model(token, fresh)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"rows must lie in 0..3; they go from 1 to 4"):
        states[-1].reorder(torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="rows must be int64"):
        states[-1].reorder(torch.tensor([True]))


@pytest.mark.parametrize(("prompt", "length"), [(12, 15), (12, 12), (20, 21)])
@pytest.mark.parametrize("case", [case for case in CASES if case not in MEMORIES])
def test_cropped_states_are_those_of_the_shorter_text(case, prompt, length):
    """A draft of five tokens, of which some are taken back; decoded, and where that is the same, read at once."""
    model, new_states = CASES[case]
    tokens = text(40, batch=2)
    for drafted in (1, 5)[: 1 if case in SPARSE else 2]:
        (_, states), (_, fresh) = (model.prefill(tokens[:, :prompt], new_states(2)) for _ in range(2))
        for part in tokens[:, prompt : prompt + 5].split(drafted, 1):
            _, states = model(part, states)
        states = [state.crop(length) for state in states]
        for part in tokens[:, prompt:length].split(1, 1) if length > prompt else ():
            _, fresh = model(part, fresh)
        assert kept_bytes(states) == kept_bytes(fresh)
        for ours, wanted in zip(states, fresh, strict=True):
            if isinstance(ours, RectifiedCache):  # bounds that are too wide would seldom change a choice
                torch.testing.assert_close(ours.known, wanted.known)
        for place in range(length, 40):
            (ours, states), (wanted, fresh) = model(tokens[:, [place]], states), model(tokens[:, [place]], fresh)
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"a state of 40 tokens can be cropped to 0..40; 41 was asked"):
        states[-1].crop(41)


def test_what_is_gone_cannot_be_cropped_to():
    """A window that has gone round gives back its newest token and no more; pruned channels and memories nothing."""
    query, key, value = drawn(12, size=8)
    ring, wanted = (WindowCache(2, 2, 5, 8, dtype=torch.float64) for _ in range(2))
    ring.attend(query[:, :, :9], key[:, :, :9], value[:, :, :9])
    with pytest.raises(ValueError, match="a window of 5 keys that has read 9 tokens cannot be cropped to 7"):
        ring.crop(7)
    ring.crop(8)
    with pytest.raises(ValueError, match="cannot be cropped to 7"):
        ring.crop(7)
    wanted.attend(query[:, :, :8], key[:, :, :8], value[:, :, :8])
    for place in range(8, 12):
        token = [each[:, :, [place]] for each in (query, key, value)]
        torch.testing.assert_close(ring.attend(*token), wanted.attend(*token))
    model, new_states = CASES["channels"]
    _, states = model.prefill(text(20), new_states(1))
    assert states[0].middle == 8 and states[0].crop(18).length == 18
    with pytest.raises(ValueError, match="whose middle holds 8 pruned tokens cannot be cropped to 17: their channels"):
        states[0].crop(17)
    _, states = CASES["retention"][0].prefill(text(9))
    assert states[0].crop(9) is states[0]
    with pytest.raises(ValueError, match="a Memory of 9 tokens cannot be cropped to 8, for it does not keep tokens"):
        states[0].crop(8)


def test_shared_keys_of_a_whole_text_are_reordered_and_cropped():
    model, tokens = CASES["index"][0], text(12, batch=3)
    rows = torch.tensor([2, 0])
    shared = model.read(model.embedding(tokens), None)[1][-1].reorder(rows).crop(7)
    wanted = model.read(model.embedding(tokens[rows, :7]), None)[1][-1]
    assert shared.length == 7 and kept_bytes([shared]) == kept_bytes([wanted])
    for name in ("key", "value", "index"):
        torch.testing.assert_close(getattr(shared, name), getattr(wanted, name))


@pytest.mark.parametrize("kind", [KeyValueCache, WindowCache])
def test_a_cache_says_what_does_not_fit_it(kind):
    for sizes, words in (
        ((1, 0, 8, 8), "heads must be at least 1; it is 0"),
        ((1, 2, 8, 0), "head_dim must be at least 1; it is 0"),
        ((1, 2, 8, 8, 0), "value_dim must be at least 1; it is 0"),
        ((-1, 2, 8, 8), "batch must be at least 0; it is -1"),
        ((1, 2, -1, 8), "(window|capacity) must be at least [01]; it is -1"),
        ((1, 2, 8.0, 8), "(window|capacity) must be a whole number; it is 8.0"),
    ):
        with pytest.raises(ValueError, match=words):
            kind(*sizes)
    with pytest.raises(ValueError, match="window must be at least 1; it is 0"):
        WindowCache(1, 2, 0, 8) if kind is WindowCache else KeyValueCache(1, 2, 8, 8, window=0)
    cache = kind(2, 2, 8, 8)
    token = torch.randn(2, 2, 1, 8)
    for query, key, value, words in (
        (token[:1], token[:1], token[:1], r"key must be \[2, 2, new, 8\] torch.float32 on cpu; it is \[1, 2, 1, 8\]"),
        (token, token, token[..., :4], r"value must be .*; it is \[2, 2, 1, 4\] torch.float32"),
        (token, token.double(), token, r"key must be .*torch.float32 on cpu; it is \[2, 2, 1, 8\] torch.float64"),
        (token, token[0], token, r"key must be .*; it is \[2, 1, 8\]"),
        (token, token, token.expand(-1, -1, 2, -1), "each token has a key and a value; got 1 and 2"),
    ):
        with pytest.raises(ValueError, match=words):
            cache.attend(query, key, value)
    assert cache.length == 0


@pytest.mark.parametrize("case", ["whole", "window", "YOCO", "index", "rectified", "channels"])
def test_under_autocast_a_cache_of_another_precision_says_what_to_do(case):
    model, new_states = CASES[case]
    model = copy.deepcopy(model).float()
    states = new_states(1)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="bfloat16 on cpu: decode without auto"):
        model.prefill(text(3), states)


@pytest.mark.parametrize("case", CASES)
def test_gradients_stop_at_a_cache_with_a_sentence_and_pass_through_a_memory(case):
    model, new_states = CASES[case]
    model, tokens = copy.deepcopy(model).requires_grad_(), text(12)
    logits, states = model.prefill(tokens[:, :8], new_states(1))
    logits, states = model(tokens[:, 8:9], states)
    if case in {"retention", "delta"}:
        logits.sum().backward()
        with pytest.raises(ValueError, match="the memory of a .* has gradients, so it cannot be copied"):
            copy.deepcopy(states)
        return
    # Where an operator without a backward pass reads the cache, that is what is said.
    words = "gradients do not pass through a cache: read the text at once|no autograd formula was registered"
    with pytest.raises(RuntimeError, match=words):
        logits.sum().backward()
    if case != "gated":  # whose self-decoder has memories
        for ours, wanted in zip(copy.deepcopy(states), states, strict=True):
            assert ours is not wanted and ours.length == wanted.length and kept_bytes([ours]) == kept_bytes([wanted])
        with torch.no_grad():  # no graph is kept from token to token
            ours, _ = model(tokens[:, 9:10], copy.deepcopy(states))
            wanted, _ = model(tokens[:, 9:10], states)
        torch.testing.assert_close(ours, wanted)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(heads=0), "heads must be at least 1; it is 0"),
        (dict(key_value_heads=0), "key_value_heads must be at least 1; it is 0"),
        (dict(head_dim=0), "head_dim must be at least 1; it is 0"),
        (dict(window=0), "window must be at least 1; it is 0"),
        (dict(window=8.5), "window must be a whole number; it is 8.5"),
        (dict(layers=None), "layers must be a whole number; it is None"),
        (dict(context=0), "context must be at least 1; it is 0"),
        (dict(loops=0), "loops must be at least 1; it is 0"),
        (dict(sinks=-1), "sinks must be at least 0; it is -1"),
        (dict(sinks=2), "sinks is no setting without a window; it is 2"),
        (dict(value_dim=64), "value_dim is no setting of the mixer 'attention'; it is 64"),
        (dict(rule="delta"), "rule is no setting of the mixer 'attention'; it is 'delta'"),
    ],
)
def test_a_configuration_says_what_it_would_ignore_or_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        configuration("small", 9, **changes)


@pytest.mark.parametrize(
    ("changes", "sees"),
    [
        ({}, True),
        (dict(head_norms=True, biases=True, tied=True), True),
        (dict(window=8), False),
        (dict(mixer="retention", key_value_heads=4, value_dim=32), False),
        (dict(cross_layers=1), False),
        (dict(loops=2), False),
    ],
    ids=str,
)
def test_focus_and_trees_of_drafts_take_the_models_that_see_everything(changes, sees):
    model = build(configuration("tiny", 9, **changes))
    assert sees_all(model.sizes) is sees
    for call in (lambda: Added(model, 0), lambda: tree_states(model)):
        with (
            nullcontext() if sees else pytest.raises(ValueError, match="attend to the whole text|that sees everything")
        ):
            call()
