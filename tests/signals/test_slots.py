"""Slots: soft EM never lowers its likelihood, and one slot with hard labels is plain self-training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from effattn_core.signals import slots as s


def world(seed, mentions=40, entities=6, dim=4):
    """Two names of three bearers each; the second bearer of each is new."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count):
        return normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator), dim=1)

    name = torch.randint(2, (mentions,), generator=generator)
    candidates = torch.stack([torch.tensor([0, 1, 2, -1]), torch.tensor([3, 4, 5, -1])])[name]
    known = torch.tensor([[0, 1, 2, -1], [3, 4, 5, -1]])
    new = torch.tensor([False, True, False] * 2)
    labelled = (drawn(2), known, torch.tensor([1, 1]))
    return (drawn(mentions), candidates), labelled, drawn(entities), torch.ones(entities, dtype=torch.float64), new


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from((1.0, 6.0, 15.0)), prior=st.booleans())
def test_soft_em_never_lowers_the_likelihood(seed, scale, prior):
    unlabelled, labelled, features, share, new = world(seed)
    before = s.log_likelihood(unlabelled, labelled, features, share, scale)
    for _ in range(15):
        features, share = s.refit(unlabelled, labelled, features, share, new, scale, learn_prior=prior)
        after = s.log_likelihood(unlabelled, labelled, features, share, scale)
        assert after >= before - 1e-9
        before = after


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 5))
def test_one_slot_with_hard_labels_is_plain_self_training(seed, steps):
    unlabelled, labelled, features, prior, new = world(seed)
    path = s.self_trained([unlabelled], labelled, features, prior, new, 8.0, rounds=1, steps=steps, hard=True)
    torch.testing.assert_close(path[-1], s.naive(unlabelled, labelled, features, prior, new, 8.0, steps))


def test_soft_labels_are_attention_with_a_bias_and_a_mask():
    (vectors, candidates), _, features, prior, _ = world(0)
    prior = torch.arange(1.0, 7, dtype=torch.float64)
    share = s.posterior(vectors, candidates, features, prior, 3.0)
    mask = torch.zeros(len(vectors), len(features), dtype=torch.bool).scatter_(1, candidates[:, :3], True)
    bias = prior.log().masked_fill(~mask, -torch.inf)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        vectors, features, torch.eye(6, dtype=torch.float64), attn_mask=bias, scale=3.0
    )
    torch.testing.assert_close(share[:, :3], wanted.gather(1, candidates[:, :3]))
    assert (share[:, 3] == 0).all()


def test_slots_hold_a_feature_nearer_to_its_labels_than_one_slot_does():
    drift = {}
    for count in (1, 3, 5):
        moved = []
        for seed in range(5):
            (vectors, candidates), labelled, features, prior, new = world(seed, mentions=60)
            cut = list(zip(vectors.chunk(count), candidates.chunk(count), strict=True))
            path = s.self_trained(cut, labelled, features, prior, new, 8.0, rounds=3)
            moved.append((path[0] * path[-1]).sum(1)[new].mean())
            assert torch.equal(path[-1][~new], features[~new])
        drift[count] = torch.stack(moved).mean()
    assert drift[1] < drift[3] and drift[1] < drift[5]


def test_dropping_all_leaves_the_labels_alone_and_bad_input_is_refused():
    unlabelled, labelled, features, prior, new = world(1)
    path = s.self_trained([unlabelled], labelled, features, prior, new, 3.0, least=1.01)
    torch.testing.assert_close(path[-1], path[0])
    with pytest.raises(ValueError, match="at least one slot"):
        s.self_trained([], labelled, features, prior, new, 3.0)
    with pytest.raises(ValueError, match="mention 0 has none"):
        s.posterior(unlabelled[0][:1], torch.full((1, 4), -1), features, prior, 3.0)


def test_a_round_ends_at_the_mean_of_all_slots_and_of_the_labels_alone():
    (vectors, candidates), labelled, features, prior, new = world(3)
    cut = list(zip(vectors.chunk(3), candidates.chunk(3), strict=True))
    path = s.self_trained(cut, labelled, features, prior, new, 8.0, rounds=2, steps=2)
    for before, after in zip(path, path[1:], strict=False):
        optima = [path[0]]
        for slot in cut:
            once, _ = s.refit(slot, labelled, before, prior, new, 8.0)
            optima.append(s.refit(slot, labelled, once, prior, new, 8.0)[0])
        torch.testing.assert_close(after[new], normalize(sum(optima), dim=1)[new])
        torch.testing.assert_close(after[~new], features[~new])
