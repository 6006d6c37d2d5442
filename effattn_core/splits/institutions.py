"""Digits split as four hospitals' heart recordings are: real proportions, a network, and each method's rounds.

The counts are those of Fed-ECG in FedCVD, from its released metadata: recordings per institution and label. MNIST's ten
digits stand in for ten of the twenty labels, so that the split is real and the pictures are not.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.latents.digits import data_of_digits
from effattn_core.splits.federated import Client, Variates, averaged, controlled, local, personal

INSTITUTIONS = ("SPH", "PTB-XL", "SXPH", "G12EC")
COUNTS = (  # rows: institutions; columns: labels 0 to 19
    (13905, 725, 2711, 1553, 539, 675, 99, 0, 1067, 0, 96, 22, 244, 1968, 19, 209, 6, 52, 120, 91),
    (9483, 803, 634, 763, 387, 1451, 73, 26, 1109, 768, 11, 13, 2240, 1623, 417, 2088, 121, 345, 2633, 2278),
    (0, 7226, 16508, 2529, 0, 1780, 7996, 687, 0, 1133, 97, 76, 624, 888, 1, 636, 0, 0, 0, 0),
    (0, 1250, 1671, 453, 0, 568, 185, 32, 41, 767, 23, 8, 432, 881, 866, 1231, 0, 0, 0, 0),
)
STANDS_FOR = (2, 0, 1, 6, 13, 5, 15, 12, 8, 10)  # digit -> the label whose proportions it takes
TAIL = 3  # rarest digits
HIDDEN, RATE, BATCH = 32, 0.1, 32
POWER, LEAST = 0.75, 20  # digits per class go with the label's size to POWER, and are at least LEAST


def mixes(counts=COUNTS):
    """Each institution's shares of the labels, float64 [institutions, labels]."""
    counts = torch.tensor(counts, dtype=torch.float64)
    return counts / counts.sum(1, keepdim=True)


def apart(first, second):
    """Total variation between two mixes: the share of the labels given that would have to be others."""
    return (first - second).abs().sum().item() / 2


@dataclass(frozen=True)
class Wards:
    """Digits by institution: images [count, 196] and labels [count] of each, and a balanced test."""

    images: list
    labels: list
    test_images: torch.Tensor
    test_labels: torch.Tensor

    @property
    def counts(self):
        """Digits per institution and class, [institutions, 10]."""
        return torch.stack([labels.bincount(minlength=10) for labels in self.labels])

    @property
    def tail(self):
        """The rarest classes over all institutions."""
        return self.counts.sum(0).argsort(stable=True)[:TAIL].tolist()


def wards(seed):
    """MNIST at 14 × 14, split by the labels' real proportions; `seed` says which digits go where."""
    digits, generator = data_of_digits(), torch.Generator().manual_seed(seed)
    table = torch.tensor(COUNTS, dtype=torch.float64)[:, list(STANDS_FOR)]
    size = table.sum(0)
    most = digits.labels.bincount().max().item()
    per_class = (most * (size / size.max()) ** POWER).round().clamp(min=LEAST).long()
    images, labels = [[] for _ in table], [[] for _ in table]
    for digit, wanted in enumerate(per_class.tolist()):
        places = (digits.labels == digit).nonzero()[:, 0]
        places = places[torch.randperm(len(places), generator=generator)][:wanted]
        ends = (table[:, digit].cumsum(0) / size[digit] * len(places)).round().long().tolist()
        for ward, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
            images[ward].append(_small(digits.images[places[start:stop]]))
            labels[ward].append(torch.full((stop - start,), digit))
    images, labels = [torch.cat(each) for each in images], [torch.cat(each) for each in labels]
    return Wards(images, labels, _small(digits.held_images), digits.held_labels)


def _small(images):
    return functional.avg_pool2d(images, 2).flatten(1) if len(images) else images.new_zeros(0, 196)


SHAPES = ((196, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,))
SIZE = sum(torch.Size(shape).numel() for shape in SHAPES)


def untrained(seed):
    """The network's parameters before training, a vector of SIZE numbers."""
    generator, parts = torch.Generator().manual_seed(seed), []
    for shape in SHAPES:
        drawn = torch.randn(shape, generator=generator) / shape[0] ** 0.5
        parts.append((drawn if len(shape) == 2 else torch.zeros(shape)).flatten())
    return torch.cat(parts)


def logits(parameters, images):
    """Two layers with a ReLU between, read from one vector: [count, 10]."""
    parts = parameters.split([torch.Size(shape).numel() for shape in SHAPES])
    into, bias, out, last = (part.view(shape) for part, shape in zip(parts, SHAPES, strict=True))
    return functional.relu(images @ into + bias) @ out + last


def client(images, labels, *, epochs, seed):
    """A ward as Client: batches of BATCH in an order that is drawn anew in each epoch."""
    generator, batches = torch.Generator().manual_seed(seed), -(-len(labels) // BATCH)
    order = [None]

    def gradient(parameters, step):
        place = step % batches
        if place == 0:
            order[0] = torch.randperm(len(labels), generator=generator)
        these = order[0][place * BATCH : (place + 1) * BATCH]
        given = parameters.detach().requires_grad_()
        loss = functional.cross_entropy(logits(given, images[these]), labels[these])
        return torch.autograd.grad(loss, given)[0]

    return Client(gradient, epochs * batches, len(labels))


def trained(data, method, *, rounds, epochs, seed, pull=0.0):
    """Train by a method. Returns the server's parameters (None for "local") and each ward's own, [4, SIZE].

    method: "central", "local", "FedAvg, by examples", "FedAvg, equal", "FedProx", "Scaffold", "Scaffold, as released"
    or "Ditto". pull: the μ of FedProx and Ditto.
    """
    parameters = untrained(seed)
    pairs = list(zip(data.images, data.labels, strict=True))
    clients = [client(*pair, epochs=epochs, seed=100 * seed + place) for place, pair in enumerate(pairs)]
    if method == "central":
        one = client(torch.cat(data.images), torch.cat(data.labels), epochs=epochs * rounds, seed=100 * seed)
        parameters = local(parameters, one, RATE)
        return parameters, parameters.expand(len(clients), -1)
    own = parameters.expand(len(clients), -1)
    variates = Variates.zero(parameters, len(clients))
    total, equal = sum(each.count for each in clients), [1 / len(clients)] * len(clients)
    shares = [each.count / total for each in clients] if method == "FedAvg, by examples" else equal
    for _ in range(rounds):
        if method == "local":
            own = torch.stack([local(start, each, RATE) for start, each in zip(own, clients, strict=True)])
        elif method in ("Scaffold", "Scaffold, as released"):
            released = method != "Scaffold"
            parameters, variates = controlled(parameters, variates, clients, RATE, released=released)
        elif method == "Ditto":
            parameters, own = personal(parameters, own, clients, shares, RATE, pull=pull)
        elif method in ("FedAvg, by examples", "FedAvg, equal", "FedProx"):
            parameters = averaged(parameters, clients, shares, RATE, pull=pull if method == "FedProx" else 0.0)
        else:
            raise ValueError(f"method {method!r} is not known here; see the function's first line.")
    if method in ("local", "Ditto"):
        return (None if method == "local" else parameters), own
    return parameters, parameters.expand(len(clients), -1)


@torch.no_grad()
def recalls(data, parameters):
    """Share of each class's test digits that are right, [10]."""
    right = (logits(parameters, data.test_images).argmax(1) == data.test_labels).double()
    return torch.stack([right[data.test_labels == digit].mean() for digit in range(10)])


def judged(data, server, own):
    """Accuracies of a training: over all classes alike ("macro"), over the tail, over each ward's own mix ("own")."""
    mix = data.counts.double() / data.counts.sum(1, keepdim=True)
    by_ward = torch.stack([recalls(data, each) for each in own])
    shared = by_ward.mean(0) if server is None else recalls(data, server)
    return {
        "macro": shared.mean().item(),
        "tail": shared[data.tail].mean().item(),
        "own": (by_ward * mix).sum(1).mean().item(),
        "by_ward": (by_ward * mix).sum(1).tolist(),
        "recalls": shared.tolist(),
    }
