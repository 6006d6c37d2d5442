"""Names of countries: the groups are whole, and messages over tensors are those of the factor graph, one by one."""

import pytest
import torch

from effattn_core.discrete import linking
from effattn_core.discrete.factors import propagated


@pytest.fixture(scope="module")
def one_group():
    """(names, weights): a group of a few mentions, and weights for which its signals matter."""
    names = min((linking.drawn(seed, 1, 1)[0] for seed in range(8)), key=lambda each: len(each.mentions))
    weights = {
        "link": torch.tensor([2.0, 0.5, 1.0]), "pair": torch.tensor([-0.5, 1.0, 1.5]),
        "transitivity": torch.tensor(0.7), "consistency": torch.tensor(0.4),
    }  # fmt: skip
    return names, {name: each.double() for name, each in weights.items()}


@pytest.mark.parametrize("joint", [(), ("transitivity",), ("consistency",), linking.JOINT], ids=str)
def test_messages_over_tensors_are_those_of_the_factor_graph(one_group, joint):
    names, weights = one_group
    mentions = len(names.mentions)
    found = linking.believed(names, weights, joint, tolerance=1e-13)
    graph = linking.as_graph(names, weights, joint)
    wanted = propagated(graph, damping=0.5, tolerance=1e-13)
    assert max(found.residual, wanted.residual) <= 1e-13
    torch.testing.assert_close(found.link, torch.stack(wanted.variables[:mentions]), rtol=0, atol=1e-11)
    torch.testing.assert_close(found.pair, torch.stack(wanted.variables[mentions:]), rtol=0, atol=1e-11)


def test_expected_features_are_sums_over_the_beliefs_of_the_factors(one_group):
    names, weights = one_group
    mentions = len(names.mentions)
    found, graph = linking.believed(names, weights, tolerance=1e-12), linking.as_graph(names, weights, linking.JOINT)
    wanted = propagated(graph, damping=0.5, tolerance=1e-12)
    sums = {name: 0.0 for name in linking.JOINT}
    for factor, belief in zip(graph.factors, wanted.factors, strict=True):
        if len(factor.variables) == 3:
            name = "consistency" if factor.variables[1] < mentions else "transitivity"
            sums[name] += ((factor.table / weights[name]) * belief).sum().item()
    for name, total in sums.items():
        assert found.features[name].item() == pytest.approx(total, abs=1e-9), name


def test_right_labels_break_no_triple_and_every_pair_is_consistent(one_group):
    names, _ = one_group
    broken = names.same[names.triples].sum(1) == 2
    assert not broken.any() and linking.gold(names)["consistency"] == len(names.pairs)
    assert torch.equal(names.same, names.mentions[names.pairs[:, 0]] == names.mentions[names.pairs[:, 1]])


def test_groups_are_disjoint_and_no_country_stands_on_both_sides():
    chosen = linking.groups()
    everyone = [country for group in chosen for country in group]
    assert len(chosen) == linking.GROUPS and len(set(everyone)) == len(everyone) == 4 * linking.GROUPS
    train, test = linking.drawn(0)
    assert not {*train.written} & {*test.written}
    with pytest.raises(ValueError, match="groups"):
        linking.drawn(0, 50, 50)
