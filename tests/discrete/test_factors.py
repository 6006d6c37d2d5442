"""Messages are exact on trees, Bethe's log Z is log Z there, and its slope is E[q]; the fast form is the slow one."""

import pytest
import torch

from effattn_core.discrete.factors import Factor, Graph, enumerated, propagated, ring


def tree(seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {(0,): (2,), (0, 1): (2, 3), (2, 1, 3): (2, 3, 4), (3, 4): (4, 2)}
    tables = {each: torch.randn(shape, dtype=torch.float64, generator=generator) for each, shape in shapes.items()}
    tables[0, 1] = scale * tables[0, 1]
    return Graph((2, 3, 2, 4, 2), tuple(Factor(*each) for each in tables.items()))


@pytest.mark.parametrize("seed", range(5))
def test_on_a_tree_beliefs_are_marginals_and_bethe_is_log_z(seed):
    graph = tree(seed)
    (log_partition, marginals), found = enumerated(graph), propagated(graph)
    assert found.residual <= 1e-9 and found.sweeps <= 6
    for belief, marginal in zip(found.variables, marginals, strict=True):
        torch.testing.assert_close(belief, marginal, atol=1e-13, rtol=0)
    assert found.log_partition == pytest.approx(log_partition, abs=1e-12)


def test_the_slope_of_log_z_in_a_weight_is_the_expected_feature():
    small = 1e-5
    up, down = (enumerated(tree(scale=1 + sign * small))[0] for sign in (1, -1))
    graph = tree()
    expected = (propagated(graph).factors[1] * graph.factors[1].table).sum().item()
    assert (up - down) / (2 * small) == pytest.approx(expected, abs=1e-8)


def test_on_a_frustrated_ring_bethe_is_wrong_and_messages_without_damping_do_not_settle():
    graph = ring(4.0)
    (log_partition, _), found = enumerated(graph), propagated(graph, sweeps=300)
    assert found.residual > 1e-9
    damped = propagated(graph, damping=0.5, sweeps=300)
    assert damped.residual <= 1e-9 and abs(damped.log_partition - log_partition) > 1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="needs a table of"):
        Graph((2, 3), (Factor((0, 1), torch.zeros(3, 2)),))
    with pytest.raises(ValueError, match="damping"):
        propagated(ring(1.0), damping=1.0)
