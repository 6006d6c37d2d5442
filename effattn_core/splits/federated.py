"""Training where the data lies: clients take steps, a server averages. FedAvg, FedProx, Scaffold and Ditto.

Parameters are one vector, [size]; a client is a function that gives its gradient there. So the same lines run on
quadratics, whose fixed points are known in closed form, and on a network. Names and settings are those of FedCVD's
released code (arXiv 2411.07050); the paper's text was not read.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

AVERAGED, PROXIMAL, CONTROLLED, PERSONAL = "FedAvg", "FedProx", "Scaffold", "Ditto"
VECTORS = {AVERAGED: 2, PROXIMAL: 2, CONTROLLED: 4, PERSONAL: 2}  # sent per client and round, both ways together


@dataclass(frozen=True)
class Client:
    """gradient(parameters, step): of the client's own loss; steps: how many it takes per round; count: its examples."""

    gradient: Callable
    steps: int
    count: int = 1


def local(parameters, client, rate, *, pull=0.0, start=None, correction=0.0):
    """The client's parameters after its steps (eq. splits-local).

    w ← w − rate · (gradient(w) + pull · (w − parameters) + correction), from `start`, by default the server's
    `parameters`. pull: FedProx's and Ditto's μ. correction: Scaffold's c − c_i.
    """
    found = parameters if start is None else start
    for step in range(client.steps):
        found = found - rate * (client.gradient(found, step) + pull * (found - parameters) + correction)
    return found


def averaged(parameters, clients, weights, rate, *, pull=0.0):
    """One round of FedAvg, or with a `pull` of FedProx: w ← Σ a_i w_i. Returns [size].

    weights: the a_i, which must sum to 1: shares of the examples, or equal. That is a choice of objective.
    """
    _check(clients, weights)
    return sum(weight * local(parameters, each, rate, pull=pull) for weight, each in zip(weights, clients, strict=True))


@dataclass(frozen=True)
class Variates:
    """Scaffold's memory: server [size] is c, the mean direction; clients [count, size] are the c_i, their own."""

    server: torch.Tensor
    clients: torch.Tensor

    @classmethod
    def zero(cls, parameters, count):
        return cls(torch.zeros_like(parameters), parameters.new_zeros(count, len(parameters)))


def controlled(parameters, variates, clients, rate, *, server_rate=1.0, released=False):
    """One round of Scaffold, all clients present (eq. splits-scaffold). Returns the parameters and new variates.

    c_i ← c_i − c + (w − w_i) / (steps · rate), with the w that the round began with. released: as FedCVD's code runs
    it: the corrected gradient is written where no optimizer reads it, so the steps are plain.
    """
    _check(clients, None)
    moved, own = [], []
    for client, variate in zip(clients, variates.clients, strict=True):
        correction = 0.0 if released else variates.server - variate
        found = local(parameters, client, rate, correction=correction)
        moved.append(found - parameters)
        own.append(variate - variates.server + (parameters - found) / (client.steps * rate))
    own = torch.stack(own)
    server = variates.server + (own - variates.clients).mean(0)
    return parameters + server_rate * torch.stack(moved).mean(0), Variates(server, own)


def personal(parameters, own, clients, weights, rate, *, pull):
    """One round of Ditto: a round of FedAvg, and steps of each client's own model, pulled to the received one.

    own: [clients, size]. pull: μ; with 0 own models are what each client would train alone. Returns both, moved.
    """
    pairs = zip(own, clients, strict=True)
    kept = torch.stack([local(parameters, client, rate, pull=pull, start=start) for start, client in pairs])
    return averaged(parameters, clients, weights, rate), kept


def bytes_per_round(method, clients, size, *, bytes_each=4):
    """What all clients receive and send in a round: vectors of `size` numbers, down and up (eq. splits-bytes)."""
    if method not in VECTORS:
        raise ValueError(f"method {method!r} is not known; one of {', '.join(VECTORS)} is wanted.")
    return VECTORS[method] * clients * size * bytes_each


def _check(clients, weights):
    if not clients:
        raise ValueError("a round without clients averages nothing; give at least one.")
    if weights is None:
        return
    if len(weights) != len(clients):
        raise ValueError(f"{len(weights)} weights were given for {len(clients)} clients; one each is wanted.")
    if abs(sum(float(each) for each in weights) - 1) > 1e-6:
        raise ValueError(f"weights sum to {sum(float(each) for each in weights):.4g}; their sum must be 1.")


@dataclass(frozen=True)
class Bowls:
    """Quadratic losses ½ (w − b_i)ᵀ H_i (w − b_i), one per client. hessians: [clients, size, size], symmetric and
    positive; optima: [clients, size], the b_i; float64."""

    hessians: torch.Tensor
    optima: torch.Tensor

    def clients(self, steps):
        """As Client, each with `steps` full-batch steps per round."""

        def gradient(hessian, optimum):
            return lambda parameters, step: hessian @ (parameters - optimum)

        return [Client(gradient(*each), steps) for each in zip(self.hessians, self.optima, strict=True)]

    def optimum(self, weights):
        """Where the weighted loss is least: (Σ a_i H_i)⁻¹ Σ a_i H_i b_i."""
        return _balance(self.hessians, self.optima, weights)


def oracle(bowls, weights, steps, rate, *, pull=0.0):
    """Where FedAvg, or with `pull` FedProx, comes to rest on quadratics (eq. splits-fixed-point). Returns [size].

    `steps` local steps of size `rate` move client i from w by Q_i (b_i − w), with
    Q_i = (I − (I − rate (H_i + pull I))^steps) (H_i + pull I)⁻¹ H_i. At rest moves cancel: Σ a_i Q_i (b_i − w) = 0.
    """
    identity = torch.eye(bowls.hessians.shape[-1], dtype=bowls.hessians.dtype)
    stiff = bowls.hessians + pull * identity
    left = torch.linalg.matrix_power(identity - rate * stiff, steps)
    return _balance((identity - left) @ torch.linalg.solve(stiff, bowls.hessians), bowls.optima, weights)


def _balance(matrices, points, weights):
    """(Σ a_i M_i)⁻¹ Σ a_i M_i b_i: a mean of points whose weights are matrices."""
    weights = torch.as_tensor(weights, dtype=points.dtype)
    total = torch.einsum("i,ijk->jk", weights, matrices)
    return torch.linalg.solve(total, torch.einsum("i,ijk,ik->j", weights, matrices, points))
