"""The oracle of routing: the best assignment under a capacity, as a linear program, and what certifies any other.

max Σ P x, each token in top_k experts, each expert with at most `capacity` tokens, 0 ≤ x ≤ 1 (eq. routing-problem). The
constraints are the edges of a bipartite graph and a box, which is totally unimodular: the program's optimum is a mask.
"""

import importlib.util
from typing import NamedTuple

import torch


class Optimum(NamedTuple):
    """The best assignment. mask: bool [tokens, experts]; prices: float64 [experts], at least 0; value: its sum of P."""

    mask: torch.Tensor
    prices: torch.Tensor
    value: float


def optimum(values: torch.Tensor, top_k: int, capacity: int) -> Optimum:
    """The oracle: HiGHS on the linear program, in float64 (eq. routing-problem).

    values: [tokens, experts], floating, those of the softmax. The prices are the dual's: the routing is a top-k of
    values - prices. Raises ModuleNotFoundError in a sentence without SciPy, ValueError where not all tokens fit.
    """
    require_room(len(values), values.shape[1], top_k, capacity)
    sparse, solve = _scipy("sparse"), _scipy("optimize").linprog
    tokens, experts = values.shape
    each = sparse.kron(sparse.eye(tokens), sparse.csr_matrix([[1.0] * experts]), format="csr")  # a row per token
    load = sparse.kron(sparse.csr_matrix([[1.0] * tokens]), sparse.eye(experts), format="csr")  # a row per expert
    profit = values.detach().double().cpu().numpy().reshape(-1)
    # HiGHS stops at 1e-7 unless told otherwise; the prices then miss the optimum by a little on skewed scores.
    exact = dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10)
    places, wanted = [capacity] * experts, [top_k] * tokens
    found = solve(-profit, load, places, each, wanted, bounds=(0, 1), method="highs", options=exact)
    if not found.success:
        raise RuntimeError(f"the linear program was not solved: {found.message}")
    share = torch.from_numpy(found.x).view(tokens, experts)
    mask = (share > 0.5).to(values.device)
    prices = torch.from_numpy(-found.ineqlin.marginals).clamp(min=0).to(values.device)
    return Optimum(mask, prices, value_of(values, mask))


def value_of(values: torch.Tensor, mask: torch.Tensor) -> float:
    """Σ P x, summed in float64."""
    return (values.detach().double() * mask).sum().item()


def dual(values: torch.Tensor, prices: torch.Tensor, top_k: int, capacity: int) -> float:
    """D(prices) = Σ_i (the top_k largest of P_i - prices) + capacity · Σ prices: no assignment is worth more.

    (eq. routing-dual) values: [tokens, experts]; prices: [experts]. In float64. Any prices are sound where the experts
    have exactly as many places as the tokens want; else they must be at least 0: ValueError for one that is less.
    """
    prices = prices.detach().double()
    slack = capacity * values.shape[1] > len(values) * top_k
    if slack and len(prices) and prices.min() < 0:
        raise ValueError(f"prices must be at least 0 where places are left over; one is {prices.min():.3g}.")
    wanted = (values.detach().double() - prices).topk(top_k, -1).values.sum()
    return (wanted + capacity * prices.sum()).item()


def gap(values: torch.Tensor, mask: torch.Tensor, prices: torch.Tensor, top_k: int, capacity: int) -> float:
    """At most this share of the optimum is missing from an assignment: 1 - value / D(prices), without solving for it.

    mask: bool [tokens, experts] that keeps to both bounds: ValueError for one that does not, whose value may be larger
    than the optimum's. One whose tokens have fewer experts than top_k is judged by what it has.
    """
    most = int(mask.sum(0).max()) if mask.numel() else 0
    if most > capacity or (mask.numel() and int(mask.sum(1).max()) > top_k):
        raise ValueError(
            f"a gap is that of an assignment within its bounds; an expert has {most} tokens of {capacity}, a token "
            f"{int(mask.sum(1).max())} experts of {top_k}."
        )
    bound = dual(values, prices, top_k, capacity)
    return 1 - value_of(values, mask) / bound if bound else 0.0


def replicated(values: torch.Tensor, top_k: int, capacity: int) -> torch.Tensor:
    """The trap: an assignment solver with tokens repeated top_k times and experts `capacity` times. int64 counts.

    Exact for top_k = 1 alone: nothing forbids a token its favourite twice, and then the value passes the optimum.
    """
    tokens, experts = values.shape
    costs = values.detach().double().cpu().repeat_interleave(top_k, 0).repeat_interleave(capacity, 1)
    rows, columns = _scipy("optimize").linear_sum_assignment(-costs.numpy())
    counts = torch.zeros(tokens, experts, dtype=torch.int64)
    places = torch.from_numpy(rows // top_k), torch.from_numpy(columns // capacity)
    return counts.index_put_(places, torch.ones(len(rows), dtype=torch.int64), accumulate=True)


def assigned(values: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    """The expert of each token, int64 [tokens], that is best in sum where expert e has slots[e] places."""
    owner = torch.arange(values.shape[1]).repeat_interleave(slots.cpu())
    rows, columns = _scipy("optimize").linear_sum_assignment(-values.detach().double().cpu()[:, owner].numpy())
    expert = torch.empty(len(values), dtype=torch.int64)
    expert[torch.from_numpy(rows)] = owner[torch.from_numpy(columns)]
    return expert.to(values.device)


def require_room(tokens: int, experts: int, top_k: int, capacity: int) -> None:
    """Raise ValueError unless the experts have a place for every choice of every token."""
    if experts * capacity < tokens * top_k:
        raise ValueError(
            f"{tokens} tokens with {top_k} experts each need {tokens * top_k} places; {experts} experts of capacity "
            f"{capacity} have {experts * capacity}: raise the capacity, or take a router that drops."
        )


def _scipy(part):
    """A part of SciPy. Raises ModuleNotFoundError with one sentence where it is not installed."""
    if importlib.util.find_spec("scipy") is None:
        raise ModuleNotFoundError(
            'the optimum and the released solver need SciPy (pip install scipy); router="prices" needs none.',
            name="scipy",
        )
    return importlib.import_module(f"scipy.{part}")
