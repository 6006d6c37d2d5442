"""Attention between two inputs, fusion, facts, pooling and aspects: each identity of the chapter."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effattn_core.coattention import aspects, attend, canvases, facts, pooling, sentences, summed
from effattn_core.coattention.fusion import (
    as_attention,
    fused,
    fused_scores,
    likeliest_facts,
    most_weight,
    two_hops,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 50), st.integers(1, 6))
def test_log_sum_exp_gives_back_the_sum_that_softmax_divides_away(seed, answers):
    query, key, value = drawn(3, 4, seed=seed), drawn(answers, 4, seed=seed + 1), drawn(answers, 2, seed=seed + 2)
    mask = drawn(3, answers, seed=seed + 3) > 0
    mask[0] = False
    output, weight, lse = attend(query, key, value, mask=mask)
    assert not output[0].any() and not weight[0].any() and lse[0] == -math.inf
    scores = ((query @ key.mT) / 2).exp() * mask
    torch.testing.assert_close(summed(query, key, value, mask=mask), scores @ value)
    zero = torch.zeros_like
    torch.testing.assert_close(attend(zero(query), zero(key), value, mask=mask)[2].exp(), mask.sum(1).double())


def test_attend_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        attend(drawn(2, 3), drawn(2, 4), drawn(2, 4))
    with pytest.raises(ValueError, match="boolean"):
        attend(drawn(2, 3), drawn(2, 3), drawn(2, 4), mask=torch.ones(2, 2))


@pytest.mark.parametrize("normalised", [True, False])
def test_two_products_give_the_scores_of_the_product_formed_in_full(normalised):
    x, c, w, v = drawn(2, 7, 5), drawn(2, 5, seed=1), drawn(3, 5, seed=2), drawn(2, 7, 4, seed=3)
    output, weight = fused(x, c, w, v, normalised=normalised)
    torch.testing.assert_close(fused_scores(x, c, w, normalised=normalised).softmax(-1), weight)
    query, key, value, bias, scale = as_attention(x, c, w, v, normalised=normalised)
    torch.testing.assert_close(attend(query, key, value, bias=bias, scale=scale)[0], output)


def test_only_the_direction_of_the_context_counts_and_the_weight_is_bounded():
    x, c, w, v = drawn(7, 5), drawn(5, seed=1), drawn(3, 5, seed=2), drawn(7, 4, seed=3)
    _, weight = fused(x, c, w, v)
    torch.testing.assert_close(fused(x, 9 * c, w, v)[1], weight)
    assert (weight.max(1).values <= most_weight(w, 7)).all()
    order = torch.randperm(7)
    torch.testing.assert_close(fused(x[order], c, w, v)[1], weight[:, order])
    cosine = ((w * c / c.norm()) @ (x / x.norm(dim=1, keepdim=True)).mT).argsort(1)
    assert not torch.equal(cosine, weight.argsort(1))  # norms of both apart are another ranking


def test_two_hops_are_what_their_equations_say():
    names, q, v, f = "UWTV", drawn(4), drawn(5, 4, seed=1), drawn(6, 4, seed=2)
    layers = {name: drawn(4, 4, seed=3 + place) for place, name in enumerate(names)}
    layers |= {"U'": drawn(4, 4, seed=9), "W'": drawn(4, 4, seed=10), "w": drawn(4, seed=11), "w'": drawn(4, seed=12)}
    (y, found), first, second = two_hops(q, v, f, layers)
    wanted = ((v @ layers["U"].T).tanh() * (layers["W"] @ q).tanh() @ layers["w"]).softmax(0)
    then = (wanted @ v) * (layers["T"] @ q).tanh()
    again = ((f @ layers["U'"].T).tanh() * (layers["W'"] @ then).tanh() @ layers["w'"]).softmax(0)
    for ours, exact in ((first, wanted), (y, then), (second, again), (found, again @ f)):
        torch.testing.assert_close(ours, exact)


@given(st.integers(0, 30), st.integers(1, 9))
def test_likeliest_facts_are_those_of_all_sums(seed, count):
    heads = [drawn(n, seed=seed + n).log_softmax(0) for n in (5, 3, 4)]
    best, places = likeliest_facts(*heads, count)
    all_sums = (heads[0][:, None, None] + heads[1][:, None] + heads[2]).flatten()
    torch.testing.assert_close(best, all_sums.topk(count).values)
    torch.testing.assert_close(sum(h[places[:, i]] for i, h in enumerate(heads)), best)


def test_a_sum_of_columns_is_the_mean_after_one_more_hop_and_the_logarithm_is_not():
    query, key, hidden = drawn(3, 9, 4), drawn(3, 9, 4, seed=1), drawn(9, 5, seed=2)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    output, weight, lse = attend(query, key, hidden.expand(3, 9, 5), mask=causal)
    torch.testing.assert_close(pooling.pooled(query, key, hidden, causal), output.mean((0, 1)))
    assert (pooling.pooled(query, key, hidden, causal, form="log") - output.mean((0, 1))).abs().max() > 1e-3
    torch.testing.assert_close(pooling.column_mass(query, key, lse), weight.sum(1))
    torch.testing.assert_close(weight.mean(0).mean(0), pooling.column_weights(weight.mean(0)))


@pytest.mark.parametrize("time", [1, 5, 128])
def test_uniform_causal_attention_favours_the_first_by_the_harmonic_number(time):
    even = torch.ones(time, time, dtype=torch.float64).tril()
    even = even / even.sum(1, keepdim=True)
    tilt = pooling.uniform_tilt(time)
    torch.testing.assert_close(time * pooling.column_weights(even), tilt)
    torch.testing.assert_close(tilt[0].item(), sum(1 / n for n in range(1, time + 1)))
    torch.testing.assert_close(tilt[-1].item(), 1 / time)


def test_shares_of_graded_negatives_are_those_of_the_gradient():
    negatives, others, temperature = torch.tensor([0.2, 0.4, 0.6, 0.75]).double(), 63, 0.1
    similarity = torch.cat([torch.tensor([0.8]).double(), negatives, torch.full((others,), 0.1).double()])
    similarity.requires_grad_()
    (slope,) = torch.autograd.grad(-(similarity / temperature).log_softmax(0)[0], similarity)
    wanted = slope[1:5] / slope[1:].sum()
    shares = pooling.gradient_shares(negatives, temperature, others, 0.1)
    torch.testing.assert_close(shares[:4], wanted)
    torch.testing.assert_close(shares.sum().item(), 1.0)


def test_an_item_of_which_nothing_is_shown_gives_zero_and_a_graph_fills_it():
    key, value, shown = drawn(1, 4, 3), drawn(1, 4, 2, seed=1), torch.zeros(1, 4, dtype=torch.bool)
    output, weight = aspects.guided(drawn(1, 3, seed=2), key, value, shown)
    assert not output.any() and not weight.any()
    state = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    shown = torch.tensor([[True, False], [True, False], [False, False]])
    near = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 1]]).bool()
    found, known = aspects.filled(state, shown, near)
    assert found.tolist() == [[1, 0], [3, 0], [2, 0]] and known.tolist() == [[True, False]] * 3


def test_small_worlds_are_what_they_say():
    made = canvases.draw(3, torch.Generator().manual_seed(0))
    assert made["cells"].shape == (3, 36, 76) and made["boxes"].shape == (3, 4, 200)
    clean = facts.draw(5, 0.0, torch.Generator().manual_seed(0))
    for told, asked, answer in zip(clean["facts"], clean["asked"], clean["answer"], strict=True):
        assert [answer.item(), *asked.tolist()] in told.tolist()
    pairs, held, words = sentences.halves()
    assert pairs.max() < words and pairs.shape[1:] == (2, sentences.LONGEST) and len(held) > 1000
    data = aspects.tasting(4)
    assert (data.shown.sum(1) == 4).all() and torch.allclose(data.preference.sum(1), torch.ones(120))


def test_bad_input_says_what_was_given():
    with pytest.raises(ValueError, match="same hidden size"):
        fused(drawn(3, 4), drawn(5), drawn(2, 4), drawn(3, 2))
    with pytest.raises(ValueError, match="temperature"):
        pooling.gradient_shares([0.1], 0)
    with pytest.raises(ValueError, match="form is one of"):
        pooling.column_weights(drawn(3, 3), "max")
    with pytest.raises(ValueError, match="probability"):
        facts.draw(1, 2.0, torch.Generator())
    for kind in (canvases.DualMFA, facts.RelationQA):
        with pytest.raises(ValueError, match="an arm is one of"):
            kind("none")
