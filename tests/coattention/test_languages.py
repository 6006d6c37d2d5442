"""Languages: what triples of one language each cannot see, and that mixed ones do."""

import pytest
import torch
from support.house import assert_named, assert_solved

from effattn_core.coattention.languages import (
    COUNT,
    RELATIONS,
    Encoders,
    cycle,
    drawn_languages,
    rotation,
    tail_scores,
)


@pytest.mark.parametrize("turn", range(COUNT))
def test_a_turn_of_one_language_changes_no_score_within_it(turn):
    entities, turned = cycle(), cycle() @ rotation(turn).mT
    for relation in RELATIONS:
        within = tail_scores(entities, entities, rotation(relation))
        assert (tail_scores(turned, turned, rotation(relation)) - within).abs().max() < 1e-15
        assert within.argmax(1).tolist() == [(digit + relation) % COUNT for digit in range(COUNT)]
        across = tail_scores(entities, turned, rotation(relation))  # from the one to the turned language: shifted
        assert across.argmax(1).tolist() == [(digit + relation - turn) % COUNT for digit in range(COUNT)]


def test_a_turn_must_commute_with_the_relations_to_go_unseen():
    entities = cycle()
    other = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double())[0]
    turned = entities @ other.mT
    assert (tail_scores(turned, turned, rotation(1)) - tail_scores(entities, entities, rotation(1))).abs().max() > 0.05


def test_languages_are_drawn_per_element_only_in_mixed_triples():
    draw = torch.Generator().manual_seed(0)
    once, each = (drawn_languages(4000, share, draw) for share in (0.0, 1.0))
    assert (once[:, 0] == once[:, 1]).all()
    pairs, counts = each.unique(dim=0, return_counts=True)
    assert len(pairs) == 4 and counts.min() > 850
    some = drawn_languages(4000, 0.2, draw)
    assert (some[:, 0] != some[:, 1]).double().mean().item() == pytest.approx(0.1, abs=0.02)
    with pytest.raises(ValueError, match="share of triples"):
        drawn_languages(3, 1.5, draw)


def test_the_pointer_is_a_distribution_by_its_log_sum_exp():
    torch.manual_seed(0)
    model = Encoders(dim=4, hidden=5)
    found = model.pointer(torch.randn(3, 4), torch.tensor([0, 2, 1]), torch.randn(3, 5, 4))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(3))


def test_a_bridge_is_a_share_and_an_accuracy_well_above_chance():
    assert_solved("coattention.bridge", (0.1, 0.85))
    for mistake, sentence in (
        ((1.0, 0.9), "How few"),
        ((0.1, 0.2), "no bridge yet"),
        ((0.1, 85), "between 0 and 1"),
        (0.5, "two numbers"),
    ):
        assert_named("coattention.bridge", mistake, sentence)
