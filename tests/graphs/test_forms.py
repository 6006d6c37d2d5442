"""Smoothing over a graph: its forms agree, and what the mathematics promises holds on real and random graphs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effattn_core.graphs import (
    exact,
    gain,
    gain_of_iteration,
    iterated,
    normalised,
    oracle,
    smooth,
    smoothness,
    united,
)
from effattn_core.graphs.worlds import GRAPHS, world

BETAS, HOPS = (0.0, 0.3, 0.5, 0.9, 0.99), (0, 1, 2, 3, 10)


def graph(seed=0, nodes=14, edges=30):
    """A random weighted graph with loops, pairs that stand twice and, most often, a node without neighbours."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, max(1, nodes - 2), (2, edges if nodes else 0), generator=generator)
    return normalised(ends, 0.1 + torch.rand(ends.shape[1], generator=generator, dtype=torch.float64), nodes=nodes)


def table(nodes, dim=5, seed=0):
    return torch.randn(nodes, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_normalised_matrix_is_that_of_the_definition():
    edges = torch.tensor([[0, 1, 1, 2, 3], [1, 0, 2, 2, 1]])  # one pair twice, one loop, and node 4 alone
    weights = torch.tensor([1.0, 2.0, 4.0, 9.0, 5.0], dtype=torch.float64)
    found = normalised(edges, weights, nodes=5)
    plain = torch.zeros(5, 5, dtype=torch.float64)
    for one, other, weight in ((0, 1, 3.0), (1, 2, 4.0), (1, 3, 5.0)):
        plain[one, other] = plain[other, one] = weight
    degree = plain.sum(1)
    wanted = plain / (degree[:, None] * degree).sqrt().clamp(min=1e-300)
    torch.testing.assert_close(found.dense(), wanted)
    assert found.entries == 6 and found.offsets.tolist() == [0, 1, 4, 5, 6, 6]
    assert found.columns.tolist() == [1, 0, 2, 3, 1, 1]
    assert normalised(edges).values.dtype == torch.float32 and normalised(edges).nodes == 4


@pytest.mark.parametrize("name", GRAPHS)
def test_eigenvalues_lie_in_one_and_minus_one_which_a_graph_of_two_sides_has(name):
    found = world(name)
    values = torch.linalg.eigvalsh(found.adjacency.dense())
    assert values.max() == pytest.approx(1) and values.min() > -1 - 1e-12
    assert (values.min() < -1 + 1e-9) == (found.side is not None)
    degree = torch.zeros(found.nodes, dtype=torch.float64)
    for end in found.edges:
        degree.index_add_(0, end, found.weights)
    root = degree.sqrt()[:, None]
    torch.testing.assert_close(found.adjacency.times(root), root)  # the eigenvector of 1


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("layers", HOPS)
def test_forms_agree_with_the_oracle_and_the_gain_is_what_eigenvectors_get(beta, layers):
    for seed in range(3):
        adjacency = graph(seed)
        step = table(adjacency.nodes, seed=seed)
        for rescaled in (True, False):
            given = dict(beta=beta, layers=layers, rescaled=rescaled)
            wanted = oracle(step, adjacency, **given)
            torch.testing.assert_close(smooth(step, adjacency, **given), wanted, atol=1e-13, rtol=0)
            torch.testing.assert_close(smooth(step, adjacency, **given, implementation="oracle"), wanted)
            values, vectors = torch.linalg.eigh(adjacency.dense())
            found = smooth(vectors, adjacency, **given)
            torch.testing.assert_close(found, vectors * gain(values, **given), atol=1e-12, rtol=0)
        found = iterated(vectors, adjacency, beta, layers)
        torch.testing.assert_close(found, vectors * gain_of_iteration(values, beta, layers), atol=1e-12, rtol=0)


def test_the_dense_solve_is_the_least_of_what_it_minimises():
    adjacency, beta = world("karate").adjacency, 0.7
    step = table(adjacency.nodes)
    best = exact(step, adjacency, beta).requires_grad_()

    def price(given):
        return (1 - beta) * (given - step).square().sum() + beta * smoothness(given, adjacency)

    (slope,) = torch.autograd.grad(price(best), best)
    assert slope.abs().max() < 1e-6  # Ã has float32 weights: sums of them are exact to that
    for seed in range(5):
        assert price(best.detach() + 0.1 * table(adjacency.nodes, seed=seed + 1)) > price(best.detach())


def test_smoothness_is_the_sum_over_edges_of_differences_by_degree():
    found = world("les miserables")
    values = table(found.nodes)
    degree = torch.zeros(found.nodes, dtype=torch.float64)
    for end in found.edges:
        degree.index_add_(0, end, found.weights)
    scaled = values / degree.sqrt()[:, None]
    wanted = (found.weights * (scaled[found.edges[0]] - scaled[found.edges[1]]).square().sum(1)).sum()
    assert smoothness(values, found.adjacency).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_no_hop_and_no_beta_change_nothing():
    adjacency = graph()
    step = table(adjacency.nodes).float()
    for beta, layers in ((0.0, 3), (0.9, 0), (0.0, 0)):
        assert torch.equal(smooth(step, adjacency, beta=beta, layers=layers), step)
        assert torch.equal(iterated(step, adjacency, beta, layers), step)


@pytest.mark.parametrize("beta", BETAS)
def test_what_is_smooth_already_is_left_alone_on_each_component(beta):
    parts = [world("karate"), world("florentine")]
    adjacency = united([each.adjacency for each in parts])
    roots, rows = torch.zeros(adjacency.nodes, 2, dtype=torch.float64), 0
    for column, each in enumerate(parts):
        degree = torch.zeros(each.nodes, dtype=torch.float64)
        for end in each.edges:
            degree.index_add_(0, end, each.weights)
        roots[rows : rows + each.nodes, column] = degree.sqrt() * (column + 2)
        rows += each.nodes
    torch.testing.assert_close(smooth(roots, adjacency, beta=beta, layers=3), roots)


@given(st.integers(0, 40), st.floats(0, 0.99), st.integers(0, 6))
def test_it_is_linear_symmetric_positive_and_makes_any_step_smoother(seed, beta, layers):
    adjacency = graph(seed)
    one, other = table(adjacency.nodes, seed=seed), table(adjacency.nodes, seed=seed + 100)
    mixing = table(5, 5, seed=seed + 7)

    def psi(step):
        return smooth(step, adjacency, beta=beta, layers=layers)

    torch.testing.assert_close(psi(2 * one - 3 * other), 2 * psi(one) - 3 * psi(other))
    torch.testing.assert_close((psi(one) * other).sum(), (one * psi(other)).sum())
    torch.testing.assert_close(psi(one @ mixing), psi(one) @ mixing)
    assert smoothness(psi(one), adjacency) <= smoothness(one, adjacency) + 1e-9
    assert (psi(one) * one).sum() > 0


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("beta", BETAS)
def test_every_gain_is_above_nothing_and_at_most_one_and_the_rival_s_is_not(name, beta):
    values = torch.linalg.eigvalsh(world(name).adjacency.dense()).clamp(-1, 1)
    for layers in HOPS:
        gains = gain(values, beta, layers)
        assert gains.min() > 0 and gains.max() <= 1 + 1e-12
        assert gain(1.0, beta, layers) == pytest.approx(1)
    if world(name).side is not None:  # at the eigenvalue -1 one hop of the rival turns the step from a half on
        assert gain_of_iteration(-1.0, beta, 1) == pytest.approx(1 - 2 * beta)
        assert (gain_of_iteration(values, beta, 1).min() < 0) == (beta > 0.5)


def test_the_series_ends_in_the_solve_and_its_error_is_that_of_the_next_power():
    adjacency = world("les miserables").adjacency
    values, vectors = torch.linalg.eigh(adjacency.dense())
    for beta in (0.5, 0.9):
        limit = gain(values, beta, math.inf)
        torch.testing.assert_close(exact(vectors, adjacency, beta), vectors * limit, atol=1e-9, rtol=0)
        for layers in HOPS:
            plain, rescaled = (gain(values, beta, layers, each) for each in (False, True))
            assert (plain - limit).abs().max() <= beta ** (layers + 1) + 1e-12
            assert (rescaled - limit).abs().max() <= 2 * beta ** (layers + 1)


def test_the_sheet_s_figures_of_les_miserables():
    adjacency = world("les miserables").adjacency
    values = torch.linalg.eigvalsh(adjacency.dense())
    step = table(adjacency.nodes, 64)
    for beta, ratios, series, rival in (
        (0.5, (0.389, 0.260, 0.230), 0.393, 0.349),
        (0.9, (0.224, 0.079, 0.022), 0.156, -0.150),
        (0.99, (0.202, 0.061, 0.010), 0.121, -0.293),
    ):
        assert gain(values, beta, 3).min().item() == pytest.approx(series, abs=1e-3)
        assert gain_of_iteration(values, beta, 3).min().item() == pytest.approx(rival, abs=1e-3)
        for layers, wanted in zip((1, 3, 10), ratios, strict=True):
            found = smoothness(smooth(step, adjacency, beta=beta, layers=layers), adjacency)
            # of another random step: what is asked is the table's size, a tenth of it or two thousandths
            assert (found / smoothness(step, adjacency)).item() == pytest.approx(wanted, rel=0.12, abs=0.002)


def test_renaming_the_nodes_renames_the_answer():
    adjacency = graph(3)
    order = torch.randperm(adjacency.nodes, generator=torch.Generator().manual_seed(1))
    step, renamed = table(adjacency.nodes), adjacency.permuted(order)
    torch.testing.assert_close(renamed.dense(), adjacency.dense()[order][:, order])
    torch.testing.assert_close(smooth(step[order], renamed), smooth(step, adjacency)[order])


def test_graphs_side_by_side_do_not_touch():
    one, other = graph(1), graph(2, nodes=9)
    both, step = united([one, other]), table(23)
    wanted = torch.cat([smooth(step[:14], one), smooth(step[14:], other)])
    torch.testing.assert_close(smooth(step, both), wanted)
    assert torch.equal(both.dense(), torch.block_diag(one.dense(), other.dense()))


def test_a_node_without_neighbours_keeps_its_direction_and_loses_three_quarters():
    adjacency = graph()
    alone = (adjacency.offsets.diff() == 0).nonzero()[0].item()
    step = table(adjacency.nodes)
    for beta, wanted in ((0.9, 0.29), (0.99, 0.254)):
        found = smooth(step, adjacency, beta=beta)[alone]
        torch.testing.assert_close(found, step[alone] * (1 - beta) / (1 - beta**4))
        assert (found / step[alone])[0].item() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_summed_in_float32_and_answered_as_it_came(dtype):
    adjacency = graph()
    step = table(adjacency.nodes).to(dtype)
    found = smooth(step, adjacency, beta=0.9)
    wanted = oracle(step, adjacency, 0.9, 3)
    assert found.dtype == dtype
    assert (found - wanted).abs().max() <= torch.finfo(dtype).eps * wanted.abs().max()


def test_a_gradient_passes_through_and_strides_and_empty_tables_do():
    adjacency = graph()
    step = table(5, adjacency.nodes).mT.requires_grad_()
    assert torch.autograd.gradcheck(lambda each: smooth(each, adjacency, beta=0.8), step)
    torch.testing.assert_close(smooth(step, adjacency), smooth(step.contiguous(), adjacency))
    assert smooth(table(adjacency.nodes, 0), adjacency).shape == (adjacency.nodes, 0)
    nobody = normalised(torch.zeros(2, 0, dtype=torch.int64), nodes=3)
    assert torch.equal(smooth(torch.ones(3, 2), nobody, beta=0.5, layers=1), torch.full((3, 2), 2 / 3))
    assert smooth(torch.ones(0, 2), graph(nodes=0)).shape == (0, 2)
    for call in (lambda each: oracle(each, nobody, 0.5, 1), lambda each: exact(each, nobody, 0.5)):
        assert call(torch.ones(3, 2)).dtype == torch.float64


EDGES = torch.tensor([[0, 1], [1, 2]])
REFUSED = [
    (lambda: normalised(EDGES.float()), "edges must be int64 [2, edges]; it is torch.float32 (2, 2)."),
    (lambda: normalised(EDGES[:1]), "edges must be int64 [2, edges]; it is torch.int64 (1, 2)."),
    (lambda: normalised(EDGES, nodes=2), "edges must join nodes 0 to 1; they join 0 to 2."),
    (lambda: normalised(EDGES - 1), "edges must join nodes 0 to 1; they join -1 to 1."),
    (lambda: normalised(EDGES, torch.ones(3)), "weights must be floating [edges], here [2]; it is torch.float32 (3,)."),
    (lambda: normalised(EDGES, torch.tensor([1.0, 0.0])), "weights must be finite and above 0; the least is 0."),
    (lambda: normalised(EDGES, nodes=2.5), "nodes must be a whole number of at least 0; it is 2.5."),
    (lambda: united([]), "united needs at least one graph; it was given none."),
    (lambda: smooth(torch.ones(4, 2), graph()), "update must have a row per node, 14; it has 4."),
    (lambda: smooth(torch.ones(14), graph()), "update must be floating [nodes, dim]; it is torch.float32 (14,)."),
    (lambda: smooth(torch.ones(14, 2), graph(), beta=1.0), "beta must be a number from 0 to below 1; it is 1.0."),
    (lambda: smooth(torch.ones(14, 2), graph(), beta=math.nan), "beta must be a number from 0 to below 1; it is nan."),
    (lambda: smooth(torch.ones(14, 2), graph(), layers=-1), "layers must be a whole number of at least 0; it is -1."),
    (lambda: iterated(torch.ones(14, 2), graph(), 0.5, 1.5), "layers must be a whole number of at least 0; it is 1.5."),
    (lambda: world("village"), "name must be one of karate, les miserables, davis, florentine; it is 'village'."),
]


@pytest.mark.parametrize(("call", "sentence"), REFUSED, ids=lambda each: each if isinstance(each, str) else "")
def test_what_does_not_fit_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(ValueError) as refused:
        call()
    assert str(refused.value) == sentence
