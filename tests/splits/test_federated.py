"""Rounds over split data: where they come to rest, what equals what, and which of them the released code runs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from effattn_core.splits import institutions
from effattn_core.splits.federated import (
    AVERAGED,
    CONTROLLED,
    VECTORS,
    Bowls,
    Client,
    Variates,
    averaged,
    bytes_per_round,
    controlled,
    local,
    oracle,
    personal,
)

RATE, STEPS = 0.1, 10


def bowls(seed=0, clients=3, size=4):
    """Quadratics whose optima lie apart, eigenvalues between .2 and 3."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(clients, size, size, generator=generator, dtype=torch.float64)
    turned, _ = torch.linalg.qr(drawn)
    values = 0.2 + 2.8 * torch.rand(clients, size, generator=generator, dtype=torch.float64)
    hessians = turned @ torch.diag_embed(values) @ turned.mT
    return Bowls(hessians, 3 * torch.randn(clients, size, generator=generator, dtype=torch.float64))


def shares(*counts):
    return [count / sum(counts) for count in counts]


WEIGHTS = shares(5, 3, 1)


def rested(step, start, rounds=2000):
    for _ in range(rounds):
        start = step(start)
    return start


@given(some.integers(0, 50), some.lists(some.integers(1, 20), min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_one_full_batch_step_is_a_step_on_all_data(seed, counts):
    found, weights = bowls(seed, len(counts)), shares(*counts)
    start = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    together = sum(
        weight * hessian @ (start - optimum)
        for weight, hessian, optimum in zip(weights, found.hessians, found.optima, strict=True)
    )
    once = averaged(start, found.clients(1), weights, RATE)
    torch.testing.assert_close(once, start - RATE * together, rtol=0, atol=1e-13)


@pytest.mark.parametrize("pull", [0.0, 0.3, 1.0])
def test_many_steps_come_to_rest_where_the_formula_says_and_not_at_the_optimum(pull):
    found = bowls()
    clients = found.clients(STEPS)
    rest = rested(lambda start: averaged(start, clients, WEIGHTS, RATE, pull=pull), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(rest, oracle(found, WEIGHTS, STEPS, RATE, pull=pull), rtol=0, atol=1e-12)
    assert (rest - found.optimum(WEIGHTS)).norm() > 0.1


def test_a_pull_brings_the_resting_place_nearer_and_one_step_has_none_of_it():
    found = bowls()
    best = found.optimum(WEIGHTS)
    off = [(oracle(found, WEIGHTS, STEPS, RATE, pull=pull) - best).norm().item() for pull in (0.0, 0.3, 1.0, 10.0)]
    assert off == sorted(off, reverse=True)
    torch.testing.assert_close(oracle(found, WEIGHTS, 1, RATE, pull=0.7), best, rtol=0, atol=1e-12)


def test_control_variates_lead_to_the_optimum_and_sum_to_the_servers():
    found, size = bowls(), 4
    clients, start = found.clients(STEPS), torch.zeros(size, dtype=torch.float64)
    variates = Variates.zero(start, len(clients))
    for _ in range(600):
        start, variates = controlled(start, variates, clients, RATE)
        torch.testing.assert_close(variates.clients.mean(0), variates.server, rtol=0, atol=1e-10)
    equal = [1 / 3] * 3
    torch.testing.assert_close(start, found.optimum(equal), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        variates.clients,
        torch.stack([hessian @ (start - each) for hessian, each in zip(found.hessians, found.optima, strict=True)]),
        rtol=0,
        atol=1e-10,
    )


def test_weights_by_examples_and_equal_weights_are_two_objectives():
    found = bowls()
    first, second = found.optimum(WEIGHTS), found.optimum([1 / 3] * 3)
    assert (first - second).norm() > 0.3
    for weights, optimum in ((WEIGHTS, first), ([1 / 3] * 3, second)):
        rest = rested(lambda start, w=weights: averaged(start, found.clients(1), w, RATE), torch.zeros(4).double())
        torch.testing.assert_close(rest, optimum, rtol=0, atol=1e-12)


def rounds_of(step, rounds):
    start = torch.zeros(4, dtype=torch.float64)
    variates, found = Variates.zero(start, 3), []
    for _ in range(rounds):
        start, variates = step(start, variates)
        found.append(start)
    return found


def test_scaffold_leaves_fedavg_in_the_second_round_and_the_released_one_never_does():
    clients, equal = bowls().clients(STEPS), [1 / 3] * 3
    plain = rounds_of(lambda start, kept: (averaged(start, clients, equal, RATE), kept), 5)
    meant = rounds_of(lambda start, kept: controlled(start, kept, clients, RATE), 5)
    released = rounds_of(lambda start, kept: controlled(start, kept, clients, RATE, released=True), 5)
    torch.testing.assert_close(meant[0], plain[0], rtol=0, atol=1e-12)
    assert (meant[1] - plain[1]).norm() > 1e-2
    for one, other in zip(released, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_corrected_gradient_that_is_written_into_a_state_dict_reaches_no_optimizer():
    """The released loop, in small: entries of a state_dict are detached and have no gradient to be overwritten."""
    layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    layer(torch.randn(5, 3)).square().mean().backward()
    assert all(each.grad is None for each in layer.state_dict().values())
    assert all(each.grad is not None for each in layer.parameters())


def test_dittos_own_models_are_local_training_without_a_pull_and_the_servers_with_a_strong_one():
    clients, start = bowls().clients(STEPS), torch.ones(4, dtype=torch.float64)
    own = start.expand(3, -1)
    shared, kept = personal(start, own, clients, WEIGHTS, RATE, pull=0.0)
    torch.testing.assert_close(shared, averaged(start, clients, WEIGHTS, RATE), rtol=0, atol=0)
    for each, client in zip(kept, clients, strict=True):
        torch.testing.assert_close(each, local(start, client, RATE), rtol=0, atol=0)
    near = personal(start, own, clients, WEIGHTS, 0.01, pull=90.0)[1]
    far = personal(start, own, clients, WEIGHTS, 0.01, pull=0.0)[1]
    assert ((near - start).norm(dim=1) < 0.3 * (far - start).norm(dim=1)).all()


def test_steps_may_differ_between_clients():
    found = bowls()
    clients = [Client(each.gradient, steps) for each, steps in zip(found.clients(1), (1, 5, 9), strict=True)]
    start = torch.zeros(4, dtype=torch.float64)
    variates = Variates.zero(start, 3)
    for _ in range(1500):
        start, variates = controlled(start, variates, clients, RATE)
    # Whoever takes more steps moves further, but at rest every corrected gradient is 0 and nobody moves.
    torch.testing.assert_close(start, found.optimum([1 / 3] * 3), rtol=0, atol=1e-10)


def test_bytes_of_a_round_are_those_of_the_vectors_that_are_sent():
    start = torch.zeros(7)
    sent = [start, torch.zeros(7)]  # the model down, the model up
    assert bytes_per_round(AVERAGED, 1, 7) == sum(each.numel() * each.element_size() for each in sent)
    assert bytes_per_round(CONTROLLED, 4, 7) == 2 * bytes_per_round(AVERAGED, 4, 7)
    assert set(VECTORS.values()) == {2, 4}
    with pytest.raises(ValueError, match="'FedSGD' is not known; one of FedAvg"):
        bytes_per_round("FedSGD", 1, 7)


@pytest.mark.parametrize(
    ("weights", "said"), [([0.5, 0.5], "2 weights were given for 3 clients"), ([0.5, 0.5, 0.5], "weights sum to 1.5")]
)
def test_weights_that_do_not_fit_are_refused(weights, said):
    with pytest.raises(ValueError, match=said):
        averaged(torch.zeros(4, dtype=torch.float64), bowls().clients(1), weights, RATE)
    with pytest.raises(ValueError, match="without clients"):
        averaged(torch.zeros(4), [], [], RATE)


def test_the_counts_are_those_that_the_sheet_gives_in_sum():
    mix = institutions.mixes()
    between = [institutions.apart(mix[i], mix[j]) for i in range(4) for j in range(i)]
    assert min(between) == pytest.approx(0.39, abs=0.01) and max(between) == pytest.approx(0.79, abs=0.01)
    table = torch.tensor(institutions.COUNTS)
    assert (table.sum(0).max().item(), table.sum(0).min().item()) == (23388, 119)
    assert ((table > 0).sum(0) == 2).sum() == 6


def test_digits_are_split_by_the_real_proportions_and_no_digit_goes_to_two_places():
    data = institutions.wards(3)
    counts = data.counts
    assert counts.sum(0).max() == 400 and counts.sum(0).min() >= institutions.LEAST
    table = torch.tensor(institutions.COUNTS)[:, list(institutions.STANDS_FOR)]
    wanted = table / table.sum(0) * counts.sum(0)
    assert (counts - wanted).abs().max() <= 1  # to a digit
    images = torch.cat(data.images)
    assert len(images.unique(dim=0)) == len(images)
    assert len(data.tail) == 3 and data.test_labels.bincount().tolist() == [100] * 10


def test_the_network_learns_and_an_unknown_method_is_refused():
    data = institutions.wards(0)
    server, own = institutions.trained(data, "FedAvg, equal", rounds=3, epochs=1, seed=0)
    found = institutions.judged(data, server, own)
    assert found["macro"] > 0.25 and len(found["recalls"]) == 10 and server.numel() == institutions.SIZE
    with pytest.raises(ValueError, match="'FedSGD' is not known here"):
        institutions.trained(data, "FedSGD", rounds=1, epochs=1, seed=0)


def test_the_networks_gradient_is_that_of_its_loss():
    data = institutions.wards(0)
    client = institutions.client(data.images[3], data.labels[3], epochs=1, seed=0)
    start = institutions.untrained(0).double()
    one = institutions.client(data.images[3].double()[:20], data.labels[3][:20], epochs=1, seed=0)
    assert client.steps == -(-client.count // institutions.BATCH) and one.steps == 1
    slope, way = one.gradient(start, 0), torch.randn(len(start), dtype=torch.float64)

    def loss(parameters):
        given = institutions.logits(parameters, data.images[3][:20].double())
        return torch.nn.functional.cross_entropy(given, data.labels[3][:20])

    rise = (loss(start + 1e-6 * way) - loss(start - 1e-6 * way)) / 2e-6
    torch.testing.assert_close(rise, slope @ way, rtol=1e-5, atol=1e-7)
