"""Pruned key channels: masks, groups and permuted heads compute what they should, and a cache decodes what they say."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.placed import DEVICE, placed

from effattn_core import bill, channels
from effattn_core.attention import Part, merge
from effattn_core.attention import oracle as dense_oracle
from effattn_core.channels import ChannelCache, build_mask, decode, deploy, masked, middle, new_states, plan
from effattn_core.channels import costs as costs_channels
from effattn_core.model import LanguageModel, configuration, generate
from effattn_core.states import State

REGION = dict(sinks=3, recent=7)
LETTERS = 11


def tensors(time, *, key_heads=3, group=2, head_dim=8, dtype=torch.float64, queries=None):
    """(query, key, value), and a mask with heads of 5, 0 and 8 channels."""
    generator = torch.Generator().manual_seed(time)
    shapes = [(key_heads * group, queries or time), (key_heads, time), (key_heads, time)]
    made = [torch.randn(2, *shape, head_dim, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    kept = torch.zeros(key_heads, head_dim, dtype=torch.bool)
    kept[0, [0, 2, 3, 6, 7]], kept[2] = True, True
    return made, kept


def small(**changes):
    torch.manual_seed(0)
    sizes = dict(head_dim=8, heads=6, key_value_heads=3, context=80) | changes
    model = LanguageModel(configuration("tiny", LETTERS, **sizes)).double().eval()
    for weight in model.parameters():
        weight.data *= 8  # so that attention is sharp, and a wrong head or position shows
    return model


def mask_of(model, seed=0, counts=(5, 0, 8)):
    """A mask with those counts, other channels in each layer, the heads in another order in each."""
    generator, sizes = torch.Generator().manual_seed(seed), model.sizes
    kept = torch.zeros(sizes.layers, sizes.key_value_heads, sizes.head_dim, dtype=torch.bool)
    for layer in range(sizes.layers):
        for head, count in zip(torch.randperm(len(counts), generator=generator).tolist(), counts, strict=True):
            kept[layer, head, torch.randperm(sizes.head_dim, generator=generator)[:count]] = True
    return kept


class Masked(State):
    """A state that mixes by the oracle: what decoding with a pruned cache must give. prompt: tokens read whole."""

    length = 0

    def __init__(self, kept, prompt=0, **region):
        self.kept, self.prompt, self.region = kept, prompt, region

    def attend(self, query, key, value):
        pruned = masked(query, key, value, self.kept, **self.region).output
        whole = dense_oracle(query, key, value, scale=query.shape[-1] ** -0.5).output
        return torch.cat([whole[:, :, : self.prompt], pruned[:, :, self.prompt :]], 2)


def test_everything_kept_is_dense_attention_and_the_pruned_region_is_what_it_says():
    (query, key, value), _ = tensors(30)
    wanted = dense_oracle(query, key, value, scale=0.3)
    for ours, truth in zip(masked(query, key, value, torch.ones(3, 8), scale=0.3, **REGION), wanted, strict=True):
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)
    position = torch.arange(30)
    for chunk in (1, 4):
        pruned = middle(position, position, sinks=3, recent=7, chunk=chunk)
        for i, j in itertools.product(range(30), range(30)):
            old = 3 <= j <= i - 7
            far = j < 3 + max(0, i + 1 - 10) // chunk * chunk
            assert pruned[i, j] == (old and far), (i, j, chunk)


@pytest.mark.parametrize("factor", [torch.full((3, 8), 0.5), torch.rand(3, 8)], ids=["half", "random"])
def test_a_factor_scales_the_products_of_its_channel_in_the_middle_alone(factor):
    (query, key, value), _ = tensors(25)
    part = masked(query, key, value, factor, scale=0.3, empty="zero", **REGION)
    for head, i in itertools.product(range(6), (5, 24)):
        scores = []
        for j in range(i + 1):
            product = query[0, head, i] * key[0, head // 2, j]
            scores.append(0.3 * (product * factor[head // 2] if 3 <= j <= i - 7 else product).sum())
        scores = torch.stack(scores)
        torch.testing.assert_close(part.log_sum_exp[0, head, i], scores.logsumexp(0))
        torch.testing.assert_close(part.output[0, head, i], scores.softmax(0) @ value[0, head // 2, : i + 1])


def test_a_head_without_channels_is_two_things():
    """Zero logits weigh exp(0) a token; removed, the head sees sinks and recent alone."""
    (query, key, value), kept = tensors(40, queries=1)
    removed, zero = (masked(query, key, value, kept, empty=each, **REGION) for each in channels.EMPTY)
    ends = torch.cat([torch.arange(3), torch.arange(33, 40)])
    near = dense_oracle(query, key[:, :, ends], value[:, :, ends], causal=False, scale=8**-0.5)
    torch.testing.assert_close(removed.output[:, 2:4], near.output[:, 2:4])
    flat = Part(value[:, 1:2, 3:33].mean(2, keepdim=True), torch.full((2, 1, 1), 30.0).log().double())
    for head in (2, 3):
        both = merge([Part(*(each[:, head : head + 1] for each in near)), flat])
        torch.testing.assert_close(zero.output[:, head : head + 1], both.output)
    assert torch.equal(removed.output[:, [0, 1, 4, 5]], zero.output[:, [0, 1, 4, 5]])
    # The sheet's numbers: 132 logits of 4 and 8,192 of zero leave the middle 53 % of the mass.
    assert abs(channels.middle_mass(132, 4.0, 8192) - 0.53) < 0.005
    assert channels.middle_mass(132, 4.0, 8192, empty="removed") == 0.0


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 6), st.integers(1, 30), st.integers(0, 20))
@settings(max_examples=40)
def test_a_cache_of_groups_decodes_what_masked_attention_says(sinks, recent, chunk, prompt, more):
    (query, key, value), kept = tensors(prompt + more)
    layout = plan(kept)
    assert layout.groups == [(1, 8), (1, 5)] and layout.order.tolist() == [2, 0, 1]
    queries = (layout.order[:, None] * 2 + torch.arange(2)).flatten()
    region = dict(sinks=sinks, recent=recent, chunk=chunk)
    cache = ChannelCache(layout, 2, prompt + more, 8, dtype=torch.float64, **region)
    query, key, value = query[:, queries], key[:, layout.order], value[:, layout.order]
    wanted = masked(query, key, value, kept[layout.order], **region).output
    if prompt > 1:
        wanted[:, :, :prompt] = dense_oracle(query, key, value, scale=8**-0.5).output[:, :, :prompt]
    pieces = [cache.attend(*(each[:, :, :prompt] for each in (query, key, value)))]
    if more:  # one at a time, and then several in one call
        pieces.append(cache.attend(*(each[:, :, prompt : prompt + 1] for each in (query, key, value))))
    if more > 1:
        pieces.append(cache.attend(*(each[:, :, prompt + 1 :] for each in (query, key, value))))
    torch.testing.assert_close(torch.cat(pieces, 2), wanted, rtol=0, atol=1e-12)
    assert cache.dense.length == costs_channels.dense_tokens(prompt + more, sinks, recent, chunk)
    assert cache.kept_bytes == 2 * costs_channels.layer_bytes(prompt + more, [5, 0, 8], 8, element=8, **region)
    with pytest.raises(ValueError, match=f"holds {prompt + more} of {prompt + more} tokens; 1 more do not fit"):
        cache.attend(*(each[:, :, :1] for each in (query, key, value)))


def test_the_order_of_kept_channels_is_irrelevant():
    (query, key, value), _ = tensors(50, queries=1)
    index = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(head))[:5] for head in range(3)])
    shuffled = index[:, torch.tensor([3, 0, 4, 2, 1])]
    parts = []
    for each in (index, shuffled):
        gathered = key.gather(-1, each[None, :, None].expand(2, -1, 50, -1))
        parts.append(decode(query, key[:, :, :4], value[:, :, :4], [gathered], [value], [each]))
    for first, second in zip(*parts, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


def test_permuted_heads_compute_what_they_did():
    model, tokens = small(), torch.randint(LETTERS, (2, 40), generator=torch.Generator().manual_seed(1))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    moved, plans = deploy(model, mask_of(model))
    assert any(each.order.tolist() != [0, 1, 2] for each in plans)
    assert not torch.equal(moved.blocks[1].mixer.key.weight, model.blocks[1].mixer.key.weight)
    torch.testing.assert_close(moved(tokens)[0], model(tokens)[0], rtol=0, atol=1e-9)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("prompt", [1, 30])
@pytest.mark.parametrize("chunk", [1, 6])
def test_a_deployed_model_decodes_what_masked_attention_says(prompt, chunk):
    """Heads permuted, grouped, gathered and moved by chunks against one mask on the model as it was."""
    model, region = small(), dict(sinks=3, recent=7, chunk=chunk)
    kept = mask_of(model)
    tokens = torch.randint(LETTERS, (2, 70), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = [Masked(layer, prompt if prompt > 1 else 0, **region) for layer in kept]
        wanted, _ = model(tokens, states)
        moved, plans = deploy(model, kept)
        states, steps = new_states(moved, plans, 2, **region), []
        for part in tokens.split([prompt] + [1] * (70 - prompt), 1):
            logits, states = moved(part, states)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, 1), wanted, rtol=0, atol=1e-8)
    assert not torch.allclose(wanted, model(tokens)[0], atol=1e-3), "the mask changes something"


def test_with_everything_kept_generation_is_that_of_the_model():
    model, prompt = small(), torch.tensor([1, 2, 3] * 10)
    moved, plans = deploy(model, torch.ones(2, 3, 8, dtype=torch.bool))
    moved.new_states = lambda batch=1: new_states(moved, plans, batch, sinks=2, recent=5, chunk=4)
    assert list(generate(moved, prompt, 40)) == list(generate(model, prompt, 40, use_cache=False))


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([8, 16, 32]), st.floats(0, 1), st.data())
@settings(max_examples=60)
def test_a_mask_keeps_the_most_important_in_multiples(layers, heads, head_dim, pruned, data):
    align = data.draw(st.sampled_from([1, 2, head_dim // 4, head_dim]))
    generator = torch.Generator().manual_seed(layers + 10 * heads)
    importance = torch.rand(layers, heads, head_dim, generator=generator)
    kept = build_mask(importance, pruned, align)
    assert (kept.sum(-1) % align == 0).all()
    lowest = importance.masked_fill(~kept, 2).amin(-1)
    highest = importance.masked_fill(kept, -1).amax(-1)
    assert (lowest > highest).all(), "a head keeps its most important channels"
    if align == 1:
        assert abs(kept.double().mean().item() - (1 - pruned)) <= 1 / importance.numel() + 1e-9
        if kept.any() and not kept.all():
            assert importance[kept].min() > importance[~kept].max(), "one threshold for all heads"


def test_the_ratio_is_kept_on_average_when_heads_are_many():
    importance = torch.rand(32, 8, 128, generator=torch.Generator().manual_seed(0))
    importance = importance ** torch.linspace(0.5, 2, 8)[:, None]  # heads differ
    for pruned in (0.3, 0.5, 0.7):
        share = build_mask(importance, pruned, 32).double().mean().item()
        assert abs(share - (1 - pruned)) < 0.02, share
    assert build_mask(importance, 1.0).sum() == 0 and build_mask(importance, 0.0).all()
    # Where the clamp has made ties, the threshold keeps them all: nothing is pruned though seven of ten were asked.
    assert build_mask(torch.ones(2, 4, 32), 0.7, 8).all()


def test_bytes_follow_from_their_formulas():
    assert costs_channels.relative_bytes(0.3) == 0.65 and costs_channels.relative_bytes(0.0, 1.0) == 0
    counts = costs_channels.RELEASED_COUNTS
    heads = sum(counts.values())
    kept = sum(count * number for count, number in counts.items()) / (128 * heads)
    assert kept == costs_channels.RELEASED_KEPT and counts[0] / heads == costs_channels.RELEASED_EMPTY
    assert abs(sum(costs_channels.RELEASED_QUARTERS) / 4 - kept) < 0.005
    each = [count for count, number in counts.items() for _ in range(number)]
    for tokens in (100, 1024, 131072):
        whole = costs_channels.dense_tokens(tokens)
        dense = 2 * 2 * 128 * heads
        wanted = dense * (whole + (tokens - whole) * costs_channels.relative_bytes(kept, 47 / 256))
        assert costs_channels.layer_bytes(tokens, each, 128) == pytest.approx(wanted)
    moved = {new.key: (old.value, new.value) for old, new in bill.moved("channels")}
    assert set(moved) == {"cache", "decode"} and all(new < old for old, new in moved.values())
    assert moved["cache"][1] == 32 * costs_channels.layer_bytes(131072, each, 128) // 32
    assert moved["decode"][1] - moved["cache"][1] == moved["decode"][0] - moved["cache"][0]


QUERY, KEY = torch.randn(1, 4, 1, 8), torch.randn(1, 2, 9, 8)
BAD = {
    r"query must be \[batch, heads, 1, head_dim\]; its shape is \(1, 4, 2, 8\)": dict(query=torch.randn(1, 4, 2, 8)),
    "the dense region needs a token": dict(dense_key=KEY[:, :, :0], dense_value=KEY[:, :, :0]),
    r"each group has a key, a value and channels; got \(1, 0, 1\)": dict(values=[]),
    "a group's key, value and channels must agree": dict(channels=[torch.arange(4)[None]]),
    "the groups hold more heads than the 1 of": dict(dense_key=KEY[:, :1], dense_value=KEY[:, :1]),
    "implementation must be 'oracle', 'torch', 'triton' or None; it is 'fast'": dict(implementation="fast"),
    "head_dim and value_dim among .* got 8 and 8: use implementation": dict(implementation="triton"),
    r"query must be .* its shape is \(4, 1, 8\)": dict(query=QUERY[0]),
    r"dense_key must be .* its shape is \(2, 9, 8\)": dict(dense_key=KEY[0]),
    "query, dense_key, dense_value must share a floating dtype": dict(dense_key=KEY.half()),
    "query, a group's key, a group's value must share a floating dtype": dict(values=[KEY.half()]),
    "query, dense_key, dense_value must share a device": dict(dense_value=KEY.to("meta")),
    "query, a group's channels must share a device": dict(channels=[torch.arange(4).repeat(2, 1).to("meta")]),
    "shapes must agree": dict(dense_value=KEY[:, :, :5]),
    "key heads must divide query heads; got 2 key heads, 3": dict(query=QUERY[:, :3]),
    "scale must be a finite number; it is nan": dict(scale=float("nan")),
    r"channels must lie in \[0, 8\); they hold 11": dict(channels=[torch.arange(8, 12).repeat(2, 1)]),
    r"channels must lie in \[0, 8\); they hold -1": dict(channels=[torch.arange(-1, 3).repeat(2, 1)]),
    "channels must each be listed once; 1 is listed twice": dict(channels=[torch.tensor([[0, 1, 2, 1]] * 2)]),
    "channels must be signed integers; got torch.float32": dict(channels=[torch.ones(2, 4)]),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_call_says_what_was_given_and_what_is_wanted(message):
    given = dict(query=QUERY, dense_key=KEY, dense_value=KEY, keys=[KEY[..., :4]], values=[KEY],
                 channels=[torch.arange(4).repeat(2, 1)])  # fmt: skip
    decode(**given)
    with pytest.raises(ValueError, match=message):
        decode(**placed(given | BAD[message]))


def test_bad_sizes_and_masks_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"pruned must be a share in \[0, 1\]; it is 1.2"):
        build_mask(torch.rand(2, 8), 1.2)
    with pytest.raises(ValueError, match="align must divide head_dim; it is 3 for channels of 8"):
        build_mask(torch.rand(2, 8), 0.5, 3)
    with pytest.raises(ValueError, match="a mask is bool .* it is torch.float32"):
        plan(torch.rand(2, 8))
    with pytest.raises(ValueError, match=r"the mask must be .* \(2, 3, 8\); it is \(3, 8\)"):
        deploy(small(), torch.ones(3, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="this model has a window of 9"):
        deploy(small(window=9), torch.ones(2, 3, 8, dtype=torch.bool))
    (query, key, value), kept = tensors(9)
    for message, changes in {
        "recent must be a whole number of at least 1; it is 0": dict(recent=0),
        "sinks must be a whole number of at least 0; it is 1.5": dict(sinks=1.5),
        "scale must be a finite number; it is inf": dict(scale=float("inf")),
        "each query needs a key to see; got 9 queries and 5 keys": dict(key=key[:, :, :5], value=value[:, :, :5]),
        "must share a floating dtype": dict(key=key.float()),
        "query, factor must share a device": dict(factor=kept.to("meta")),
        r"query must be .* its shape is \(6, 9, 8\)": dict(query=query[0]),
        "key heads must divide query heads; got 3 key heads, 4": dict(query=query[:, :4]),
        "shapes must agree": dict(value=value[:1]),
    }.items():
        with pytest.raises(ValueError, match=message):
            masked(**dict(query=query, key=key, value=value, factor=kept) | changes)
    with pytest.raises(ValueError, match="chunk must be a whole number of at least 1; it is 0"):
        ChannelCache(plan(kept), 1, 20, 8, chunk=0)
    with pytest.raises(ValueError, match="implementation must be .* 'fast'"):
        ChannelCache(plan(kept), 1, 20, 8, implementation="fast")
    with pytest.raises(ValueError, match="empty must be one of .* it is 'gone'"):
        masked(query, key, value, kept, empty="gone")
    with pytest.raises(ValueError, match=r"factor must be \[key_heads, head_dim\], \(3, 8\); its shape is \(8,\)"):
        masked(query, key, value, kept[0])


def test_heads_without_any_channel_and_an_empty_middle_are_decoded_from_the_whole_region():
    (query, key, value), _ = tensors(20, queries=1)
    wanted = dense_oracle(query, key, value, causal=False, scale=8**-0.5)
    nothing = [each[:, :2, :0, :5] for each in (key, value)]
    for groups in (([], [], []), ([nothing[0]], [value[:, :2, :0]], [torch.arange(5).repeat(2, 1)])):
        for ours, truth in zip(decode(query, key, value, *groups), wanted, strict=True):
            torch.testing.assert_close(ours, truth, rtol=0, atol=1e-12)
    cache = ChannelCache(plan(torch.zeros(3, 8, dtype=torch.bool)), 2, 20, 8, dtype=torch.float64, chunk=2, **REGION)
    whole = query.expand(-1, -1, 20, -1), key, value
    output = [cache.attend(*(each[:, :, i : i + 1] for each in whole)) for i in range(20)]
    wanted = masked(*whole, torch.zeros(3, 8), chunk=2, **REGION)
    torch.testing.assert_close(torch.cat(output, 2), wanted.output, rtol=0, atol=1e-12)
    assert cache.middle == 20 - cache.dense.length == 10 and cache.groups == []


@pytest.mark.parametrize("entry", [float("inf"), -float("inf"), float("nan"), 3e38])
def test_neither_hidden_tokens_nor_dropped_channels_reach_a_query(entry):
    """The future, the middle of a head without channels, and a channel of the middle that is not kept."""
    (query, key, value), kept = (tensors(30, dtype=torch.float32), tensors(30)[1])[0][0], tensors(30)[1]
    before = masked(query, key, value, kept, **REGION)
    for place, blind in ((29, slice(0, 29)), (10, slice(0, 10))):  # nothing before a token sees it
        for kind in ("key", "value"):
            spoiled = dict(key=key.clone(), value=value.clone())
            spoiled[kind][:, :, place] = entry
            after = masked(query, factor=kept, **spoiled, **REGION)
            for ours, wanted in zip(after, before, strict=True):
                torch.testing.assert_close(ours[:, :, blind], wanted[:, :, blind], rtol=1e-6, atol=1e-6)
            # A head without channels has lost token 10 for the last of the queries, those with them have not.
            if place == 10:
                torch.testing.assert_close(after.output[:, 2:4, 20:], before.output[:, 2:4, 20:], rtol=1e-6, atol=1e-6)
                if kind == "value" and entry != 3e38:
                    assert not after.output[:, [0, 1, 4, 5], 20:].isfinite().any()
    thin = key.clone()
    thin[:, 0, 10, 1] = entry  # a channel that head 0 does not keep
    torch.testing.assert_close(masked(query, thin, value, kept, **REGION).output[:, :, 20:], before.output[:, :, 20:])


def test_masked_attention_of_half_precision_is_computed_in_float32():
    (query, key, value), kept = tensors(30, dtype=torch.float16)
    wanted = masked(*(each.float() for each in (query, key, value)), kept, **REGION)
    found = masked(query, key, value, kept, **REGION)
    assert torch.equal(found.output, wanted.output.half()) and torch.equal(found.log_sum_exp, wanted.log_sum_exp)
    large = masked(query * 300, key * 300, value, kept, **REGION)  # scores beyond float16
    assert large.output.isfinite().all() and large.log_sum_exp.isfinite().all()


@pytest.mark.parametrize("implementation", [None, "oracle", "torch"])
def test_derivatives_of_the_plain_forms_are_right(implementation):
    (query, key, value), kept = tensors(6, queries=1)
    index = kept[[2, 0]][1:].nonzero()[:, 1][None, :3]
    thin = key[:1, :1].gather(-1, index[None, :, None].expand(1, -1, 6, -1))
    inputs = [query[:1], key[:1, :2], value[:1, :2, :, :2], thin, value[:1, 2:, :, :2]]
    inputs = [(each[:, :4] if each is query[:1] else each).clone().requires_grad_() for each in inputs]
    inputs[0] = query[:1, :4].clone().requires_grad_()

    def both(query, dense_key, dense_value, thin, far):
        return tuple(decode(query, dense_key, dense_value, [thin], [far], [index], implementation=implementation))

    assert torch.autograd.gradcheck(both, inputs, check_forward_ad=True)


def test_the_kernels_refuse_a_forward_mode_derivative():
    query, key = torch.ones(1, 2, 1, 32, device=DEVICE), torch.ones(1, 1, 9, 32, device=DEVICE)
    with pytest.raises(ValueError, match="no forward-mode derivative"):
        torch.func.jvp(lambda value: decode(query, key, value, [], [], [], implementation="triton").output, (key,),
                       (key,))  # fmt: skip
