"""Parts of federated rounds and of pseudo-labels, by hand."""

import torch

from effattn_core.splits.federated import Client, local, personal
from effattn_core.splits.transfer import centroids, pseudo_labels


def test_an_own_model_goes_on_from_itself_and_is_pulled_to_the_servers():
    clients = [Client(lambda parameters, step: parameters - 1.0, 3), Client(lambda parameters, step: 0 * parameters, 1)]
    server, own = torch.zeros(2), torch.tensor([[4.0, 4.0], [2.0, -2.0]])
    _, alone = personal(server, own, clients, [0.5, 0.5], 0.1, pull=0.0)
    torch.testing.assert_close(alone[0], 1 + 0.9**3 * (own[0] - 1))
    torch.testing.assert_close(alone[1], own[1])
    _, pulled = personal(server, own, clients, [0.5, 0.5], 0.1, pull=2.0)
    torch.testing.assert_close(pulled[1], own[1] - 0.1 * 2.0 * (own[1] - server))
    torch.testing.assert_close(pulled[0], local(server, clients[0], 0.1, pull=2.0, start=own[0]))


def test_a_centre_weighs_each_example_by_its_probability():
    features = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    found = centroids(features, torch.tensor([[0.6, 0.4], [0.3, 0.7]]))
    wanted = torch.tensor([[0.6, 0.3], [0.4, 0.7]])
    torch.testing.assert_close(found, wanted / wanted.norm(dim=1, keepdim=True))


def test_a_class_that_nobody_had_gets_nobody():
    """Its centre is 0, and nearer than a centre on the other side: a case where an example would go there."""
    features = torch.tensor([[2.92, 1.05], [-0.71, 12.44], [-7.71, -6.74], [4.57, 4.57], [0.32, 10.45]])
    probability = torch.tensor([
        [0.536, 0.018, 0.017, 0.388, 0.041], [0.033, 0.002, 0.085, 0.002, 0.878], [0.163, 0.038, 0.001, 0.467, 0.331],
        [0.010, 0.247, 0.419, 0.305, 0.019], [0.008, 0.047, 0.019, 0.365, 0.561],
    ])  # fmt: skip
    longer = torch.nn.functional.normalize(torch.cat([features, torch.ones(5, 1)], 1), dim=1)
    first = (longer @ centroids(longer, probability).T).argmax(1)
    own = torch.nn.functional.one_hot(first, 5).float()
    assert not set((longer @ centroids(longer, own).T).argmax(1).tolist()) <= set(first.tolist())
    assert set(pseudo_labels(features, probability).tolist()) <= set(first.tolist())
