"""Smoothing over a graph: how unsmooth a table is, the best smooth update, the series near it, and its rival."""

import math
from numbers import Real

import torch

from effattn_core.calls import require_count
from effattn_core.graphs.adjacency import Adjacency


def require_smoothing(update: torch.Tensor, adjacency: Adjacency, beta: float, layers: int = 0) -> None:
    """Raise ValueError unless these are an update of the graph's nodes, a beta in [0, 1) and a number of hops."""
    if update.ndim != 2 or not update.is_floating_point():
        raise ValueError(f"update must be floating [nodes, dim]; it is {update.dtype} {tuple(update.shape)}.")
    if len(update) != adjacency.nodes:
        raise ValueError(f"update must have a row per node, {adjacency.nodes}; it has {len(update)}.")
    if update.device != adjacency.values.device:
        raise ValueError(f"update and graph must share a device; got {update.device} and {adjacency.values.device}.")
    require_beta(beta)
    require_count("layers", layers, 0)


def require_beta(beta: float) -> None:
    """Raise ValueError unless beta is a number in [0, 1)."""
    if not isinstance(beta, Real) or isinstance(beta, bool) or not 0 <= beta < 1:
        raise ValueError(f"beta must be a number from 0 to below 1; it is {beta!r}.")


def smoothness(table: torch.Tensor, adjacency: Adjacency) -> torch.Tensor:
    """J(X) = tr(Xᵀ (I - Ã) X), float64: 0 where neighbours agree up to their degrees (eq. graphs-smoothness)."""
    require_smoothing(table, adjacency, 0.0)
    table = table.double()
    return (table * (table - adjacency.times(table))).sum()


def exact(update: torch.Tensor, adjacency: Adjacency, beta: float) -> torch.Tensor:
    """ψ*: the X with the least (1-β) ``|X - update|²`` + β J(X), by a dense solve in float64 (eq. graphs-exact)."""
    require_smoothing(update, adjacency, beta)
    identity = torch.eye(adjacency.nodes, dtype=torch.float64, device=update.device)
    return (1 - beta) * torch.linalg.solve(identity - beta * adjacency.dense(), update.double())


def oracle(update: torch.Tensor, adjacency: Adjacency, beta: float, layers: int, rescaled: bool = True) -> torch.Tensor:
    """ψ: `layers` hops of the series of `exact`, by powers of a dense matrix in float64 (eq. graphs-series).

    update: [nodes, dim]. Returns float64 [nodes, dim].
    """
    hop = beta * adjacency.dense()
    total = sum(torch.linalg.matrix_power(hop, power) for power in range(layers + 1))
    return scale_of_series(beta, layers, rescaled) * total @ update.double()


def scale_of_series(beta: float, layers: int, rescaled: bool = True) -> float:
    """(1-β) / (1-β^(L+1)), by which weights 1, β, …, β^L sum to 1; (1-β) if not rescaled."""
    return (1 - beta) / (1 - beta ** (layers + 1)) if rescaled else 1 - beta


def iterated(update: torch.Tensor, adjacency: Adjacency, beta: float, layers: int) -> torch.Tensor:
    """The rival: s ← β Ã s + (1-β) update, `layers` times from s = update (eq. graphs-iterated)."""
    require_smoothing(update, adjacency, beta, layers)
    found = update
    for _ in range(layers):
        found = beta * adjacency.times(found) + (1 - beta) * update
    return found.to(update.dtype)


def gain(eigenvalue, beta: float, layers: int | float, rescaled: bool = True):
    """g(λ): by what `smooth` multiplies an eigenvector of Ã (eq. graphs-gain). layers: math.inf for `exact`.

    eigenvalue: a number or a tensor, from -1 to 1.
    """
    if layers == math.inf:
        return (1 - beta) / (1 - beta * eigenvalue)
    total = sum((beta * eigenvalue) ** power for power in range(layers + 1))
    return scale_of_series(beta, layers, rescaled) * total


def gain_of_iteration(eigenvalue, beta: float, layers: int):
    """By what `iterated` multiplies an eigenvector of Ã: (βλ)^L + (1-β) Σ_{l<L} (βλ)^l."""
    before = sum((beta * eigenvalue) ** power for power in range(layers))
    return (beta * eigenvalue) ** layers + (1 - beta) * before
