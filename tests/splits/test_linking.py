"""A linker's numbers are tied to each other, and what is tested was not trained on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from effattn_core.mentions import entities, mentions
from effattn_core.splits import linking as link

NUMBERS = st.tuples(st.integers(2, 12), st.integers(1, 9), st.integers(0, 1000))


@pytest.fixture(scope="module")
def found():
    return link.world(0)


@pytest.fixture(scope="module")
def model(found):
    return link.trained_bi_encoder(found, epochs=1)


def drawn(entities_, rows, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(6, (rows, entities_), generator=generator).double()  # with equal ones
    return scores, torch.randint(entities_, (rows,), generator=generator)


@given(NUMBERS)
def test_recall_grows_with_k_and_among_all_entities_it_is_1(numbers):
    places = link.ranks(*drawn(*numbers))
    recalls = [link.recall(places, k) for k in range(numbers[0] + 1)]
    assert recalls == sorted(recalls) and recalls[0] == 0 and recalls[-1] == 1
    scores, gold = drawn(*numbers)
    assert link.recall(places, 1) <= (scores.argmax(1) == gold).double().mean().item()  # equal scores count against


@given(NUMBERS, st.integers(1, 12))
def test_end_to_end_accuracy_is_recall_times_normalised_accuracy(numbers, k):
    scores, gold = drawn(*numbers)
    places, k = link.ranks(scores, gold), min(k, numbers[0])
    generator = torch.Generator().manual_seed(numbers[2])
    inside = places < k
    right = inside & (torch.rand(len(gold), generator=generator) < 0.5)  # a re-ranker chooses among the first k only
    product = link.recall(places, k) * link.normalised_accuracy(right, places, k) if inside.any() else 0.0
    assert product == pytest.approx(right.double().mean().item())


def test_the_identity_holds_for_the_re_ranker(found, model):
    rows = found.test[:200]
    head = link.trained_cross_encoder(model, found, epochs=1)
    right = link.reranked(head, model, found, rows) == found.gold[rows]
    places = link.ranks(model.scores(found, rows), found.gold[rows])
    accuracy = right.double().mean().item()
    assert accuracy == pytest.approx(link.recall(places, 16) * link.normalised_accuracy(right, places, 16))
    assert link.recall(places, 1) < accuracy <= link.recall(places, 16)


def test_accuracy_within_the_batch_overstates(found, model):
    rows = found.test[torch.randperm(len(found.test), generator=torch.Generator().manual_seed(0))][:512]
    with torch.no_grad():
        parts = [
            link.in_batch_accuracy(
                model(found.said, part, "mention"), model(found.people, found.gold[part], "entity"), found.gold[part]
            )
            for part in rows.split(64)
        ]
    true = link.recall(link.ranks(model.scores(found, rows), found.gold[rows]), 1)
    assert sum(parts) / len(parts) > 2 * true


def test_the_loss_in_a_batch_masks_what_is_the_gold_twice():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    key[1] = key[0]
    gold = torch.tensor([7, 7, 2])
    scores = query @ key.mT / 0.5
    by_hand = [
        functional.cross_entropy(scores[[row]][:, seen], torch.tensor([place]))
        for row, seen, place in ((0, [0, 2], 0), (1, [1, 2], 0), (2, [0, 1, 2], 2))
    ]
    torch.testing.assert_close(link.in_batch_loss(query, key, gold, 0.5), sum(by_hand) / 3)
    unmasked = functional.cross_entropy(scores, torch.arange(3))
    assert link.in_batch_loss(query, key, gold, 0.5) < unmasked - 0.1
    same = link.in_batch_loss(query, key, torch.tensor([0, 1, 2]), 0.5)
    torch.testing.assert_close(same, unmasked)  # with golds that differ nothing is masked


def test_the_gold_is_put_among_the_candidates_once():
    candidates, gold = torch.tensor([[3, 1, 2], [3, 1, 2]]), torch.tensor([1, 9])
    filled, place = link.with_gold(candidates, gold)
    assert filled.tolist() == [[3, 1, 2], [3, 1, 9]] and place.tolist() == [1, 2]
    assert candidates[1].tolist() == [3, 1, 2]


def test_training_and_test_share_no_play_and_vectors_read_no_tested_act(found):
    plays_ = [{mentions()[row].play for row in rows.tolist()} for rows in (found.training, found.test)]
    assert not plays_[0] & plays_[1] and len(plays_[1]) <= link.HELD_OUT
    assert min(mentions()[row].act for row in found.test.tolist()) == 3
    assert len(found.people.names) == len(entities()) == int(found.gold.max()) + 1 or found.gold.max() < len(entities())
    assert found.idf[0] == 0 and found.vectors.shape == (len(found.idf), link.DIM)
    lengths = found.vectors[1:].norm(dim=1)
    assert ((lengths - 1).abs() < 1e-3).double().mean() > 0.95  # a name that is not said yet has no direction


def test_untrained_encoders_are_plain_means_and_the_apart_one_knows_names(found):
    rows = found.test[:100]
    mixed, apart = (link.BiEncoder(found.vectors, found.idf, each) for each in (False, True))
    first = [link.recall(link.ranks(each.scores(found, rows), found.gold[rows]), 1) for each in (mixed, apart)]
    assert first[1] > 0.4 > first[0]
    names = found.said.names
    whole = link.Texts(names, torch.zeros(len(names), 1, dtype=torch.int64))  # no context at all
    read = mixed(whole, torch.arange(5), "mention")
    torch.testing.assert_close(read, functional.normalize(found.vectors[whole.names[:5]], dim=1))


def test_same_names_are_told_apart_among_their_bearers_only(found):
    rows = found.test[:300]
    picked = link.among_bearers(link.prior().expand(300, -1), rows)
    assert picked and all(entities()[who].name == mentions()[rows[place]].name for place, who in picked.items())
