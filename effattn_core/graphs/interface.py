"""The call of the topic: an update smoothed over a graph, by the definition, in PyTorch, or by a kernel."""

import torch

from effattn_core import calls
from effattn_core.graphs.adjacency import Adjacency
from effattn_core.graphs.forms import oracle, require_smoothing, scale_of_series

operators = calls.operators("graphs")


def smooth(
    update: torch.Tensor,
    adjacency: Adjacency,
    *,
    beta: float = 0.99,
    layers: int = 3,
    rescaled: bool = True,
    implementation: str | None = None,
) -> torch.Tensor:
    """ψ(update) = (1-β)/(1-β^(L+1)) · Σ_{l=0..L} (β Ã)^l update     (eq. graphs-series; SEvo's transform)

    update: [nodes, dim], floating. adjacency: made by `normalised`. beta: in [0, 1), how much is taken from
    neighbours; layers: L, hops. rescaled: without it the factor is (1-β), and steps are shorter. implementation:
    "oracle" (dense, float64), "torch" (sparse products), "triton", or None for what fits (`effattn_core.calls`).
    Returns [nodes, dim] in the dtype of `update`; the oracle answers in float64. Differentiable: ψ is symmetric.
    Raises ValueError for a beta, a number of hops or an update that does not fit.
    """
    require_smoothing(update, adjacency, beta, layers)
    chosen = calls.choose(implementation, update.device, update.dtype)
    if chosen == "oracle":
        return oracle(update, adjacency, beta, layers, rescaled)
    if chosen == "triton":
        graph = adjacency.offsets, adjacency.columns, adjacency.values.float()
        return operators.smooth_update(update, *graph, float(beta), layers, rescaled)
    power = total = update.to(calls.wide(update.dtype))
    hop = adjacency.sparse(power.dtype)
    for _ in range(layers):
        power = beta * torch.sparse.mm(hop, power)
        total = total + power
    return (scale_of_series(beta, layers, rescaled) * total).to(update.dtype)
