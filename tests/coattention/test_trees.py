"""Trees: what added scores cannot do, masks from heads, products of attentions, and the planted grammar."""

import random

import pytest
import torch

from effattn_core.coattention import trees
from effattn_core.coattention.trees import (
    by_distance,
    common,
    distances,
    features,
    graph_attention,
    order,
    sentence,
    tree_mask,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_added_scores_rank_neighbours_alike_for_every_query():
    hidden, everyone = drawn(7, 5), torch.ones(7, 7, dtype=torch.bool)
    _, weights = graph_attention(hidden, drawn(5, 4, seed=1), drawn(4, seed=2), drawn(4, seed=3), everyone)
    assert len({tuple(order(row, everyone[0])) for row in weights}) == 1
    assert (weights[0] - weights[1]).abs().max() > 1e-3  # the same order, other weights
    product = trees.attend(hidden, hidden, hidden)[1]
    assert len({tuple(order(row, everyone[0])) for row in product}) > 1


def test_a_pairs_context_is_a_softmax_of_both_scores_added_for_one_head_and_not_for_two():
    one, other = drawn(2, 6), drawn(2, 6, seed=1)
    torch.testing.assert_close(common(one.softmax(-1), other.softmax(-1)), (one + other).softmax(-1))
    heads = common(one.softmax(-1).mean(0), other.softmax(-1).mean(0))
    assert (heads - (one.mean(0) + other.mean(0)).softmax(-1)).abs().max() > 1e-3


def test_a_tree_is_seen_in_both_directions_and_a_head_outside_is_refused():
    mask = tree_mask([1, -1, 1])
    assert torch.equal(mask, mask.T) and mask.diagonal().all() and not mask[0, 2]
    assert distances(mask)[0].tolist() == [0, 1, 2]
    assert distances(tree_mask([-1, -1]))[0, 1] == trees.FAR  # a broken parse
    for heads in ([3, -1, 1], [-2, 0]):
        with pytest.raises(ValueError, match="a head is a place"):
            tree_mask(heads)


def test_a_bias_by_distance_is_nothing_at_decay_zero_and_the_nearest_alone_at_much():
    query, value, apart = drawn(3, 4), drawn(3, 2, seed=1), distances(tree_mask([1, -1, 1]))
    plain = trees.attend(query, query, value)[0]
    torch.testing.assert_close(by_distance(query, query, value, apart, 0.0)[0], plain)
    torch.testing.assert_close(by_distance(query, query, value, apart, 1e4)[0], value)  # each word itself


@pytest.mark.parametrize("seed", range(20))
def test_the_grammars_facts_lie_at_distance_two_and_every_word_has_one_head(seed):
    told = sentence(random.Random(seed), depth=3)
    assert told.heads.count(-1) == 1 and len(told.facts) == len(told.verbs)
    apart = distances(tree_mask(list(told.heads)))
    assert apart.max() < trees.FAR  # one tree, not two
    for agent, verb, patient in told.facts:
        assert apart[agent, verb] == apart[verb, patient] == 1
        table = features(told, agent, patient)
        right = told.verbs.index(verb)
        for column in (2, 3):
            assert table[:, column].argmin() == right and (table[:, column] == table[right, column]).sum() == 1


def test_perfect_trees_find_every_verb_and_words_between_do_not():
    training, test = (trees.asked(60, seed) for seed in (0, 1))
    scores = {
        arm: trees.accuracy(*test, trees.fitted(*training, columns), columns) for arm, columns in trees.COLUMNS.items()
    }
    assert scores["dependency"] == scores["constituency"] == 1 > 0.9 > scores["linear"]
    damaged = sentence(random.Random(1)).damaged(1.0, random.Random(2))
    assert damaged.words == sentence(random.Random(1)).words and damaged.heads != sentence(random.Random(1)).heads
