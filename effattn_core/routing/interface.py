"""The one call of all routers, what it returns, and what it refuses."""

import math
from dataclasses import dataclass

import torch

from effattn_core import calls
from effattn_core.routing.optimum import optimum, require_room
from effattn_core.routing.prices import priced, quantile_prices, rounded
from effattn_core.routing.routers import (
    annealed,
    auction,
    biased,
    by_position,
    expert_choice,
    nudged,
    one_hot,
    released,
    reroute,
    sinkhorn_prices,
    token_choice,
)

RATE = 1e-3  # of the loss-free bias, in units of the values
MIXED = 0.2  # the share of a batch's own prices in the next prices of the past
# Routers, each with what bounds it: "free" has no capacity, "drop" leaves out what does not fit, "fill" places all.
BOUND = {
    "top_k": "free",
    "switch": "drop",
    "gshard": "drop",
    "expert_choice": "drop",
    "base": "fill",
    "sinkhorn": "free",
    "sinkhorn_repaired": "fill",
    "bias": "free",
    "past_prices": "free",
    "prices": "fill",
    "maxscore_released": "fill",
    "maxscore_reroute": "drop",
    "optimum": "fill",
}
ROUTERS = tuple(BOUND)
STATEFUL = ("bias", "past_prices", "maxscore_released")
CHOICES = {"switch": 1, "base": 1, "maxscore_released": 2, "maxscore_reroute": 2}  # routers made for so many
# Whether a token's experts depend on itself and what came before it alone. One choice by position keeps to the past
# within one text; more do not, for a later first choice pushes out an earlier second.
CAUSAL = ("top_k", "switch", "bias", "past_prices")


@dataclass(frozen=True)
class Routing:
    """Who goes where. tokens, experts: those of the scores.

    mask: bool [tokens, experts]; gates: [tokens, experts], the values where the mask is, else 0, with gradients.
    wanted, load: int64 [experts], tokens per expert before and after the capacity; dropped: choices that were not
    placed, of top_k · tokens (below 0 where experts chose and some tokens got more). auxiliary: the balancing loss
    experts · Σ share · mean value, without its coefficient (1 if uniform). prices: [experts] of routers that have them,
    else None: for `gap`. state: for the next batch; None for routers without one.
    """

    mask: torch.Tensor
    gates: torch.Tensor
    wanted: torch.Tensor
    load: torch.Tensor
    dropped: int
    auxiliary: torch.Tensor
    prices: torch.Tensor | None = None
    state: torch.Tensor | None = None

    @property
    def violation(self) -> float:
        """MaxVio of the loads before the capacity: the fullest expert over an equal share, minus 1."""
        return violation(self.wanted)


def violation(load: torch.Tensor) -> float:
    """MaxVio: the largest load over the mean, minus 1; 0 where nobody was routed."""
    total = load.sum().item()
    return load.max().item() * len(load) / total - 1 if total else 0.0


def capacity_of(tokens: int, experts: int, top_k: int, factor: float = 1.0) -> int:
    """Places per expert: factor · tokens · top_k / experts, rounded up."""
    return math.ceil(factor * tokens * top_k / experts)


def route(
    scores: torch.Tensor,
    *,
    router: str,
    top_k: int,
    capacity: int | None = None,
    state: torch.Tensor | None = None,
) -> Routing:
    """Send tokens to experts. scores: [tokens, experts], floating, router logits; values are their softmax.

    router: one of ROUTERS; top_k: experts per token; capacity: tokens per expert, by default an equal share, rounded
    up. state: of the batch before, for "bias" and "past_prices" [experts], for "maxscore_released" a step number, which
    anneals the second weight; None: a fresh one. Values are computed in float32, or float64 where scores are.
    Raises ValueError for shapes, counts, scores or states that do not fit, ModuleNotFoundError without SciPy, for
    "optimum" and "maxscore_released".
    """
    top_k, capacity = _checked(scores, router, top_k, capacity, state)
    values = scores.to(calls.wide(scores.dtype)).softmax(1)
    tokens, experts = scores.shape
    fixed, prices, after = values.detach(), None, None
    chosen = wanted = token_choice(fixed, top_k)
    if router in ("switch", "gshard"):
        mask = by_position(fixed, top_k, capacity)
    elif router == "expert_choice":
        mask = chosen = expert_choice(fixed, capacity)
        wanted = mask
    elif router in ("prices", "optimum", "sinkhorn_repaired"):
        mask, prices = _matched(router, fixed, top_k, capacity)
    elif router == "base":
        mask = _auctioned(scores.detach().to(values.dtype), fixed, capacity)
    elif router == "sinkhorn":
        prices = sinkhorn_prices(scores.detach().to(values.dtype), top_k)
        mask = chosen = wanted = priced(scores.detach().to(values.dtype), prices, top_k)
        prices = None  # those of the logits, another problem
    elif router == "bias":
        before = torch.zeros_like(fixed[0]) if state is None else state
        mask = chosen = wanted = biased(fixed, before.to(fixed.dtype), top_k)
        after = nudged(before, mask.sum(0), RATE)
    elif router == "past_prices":
        before = torch.zeros_like(fixed[0]) if state is None else state
        mask = chosen = wanted = priced(fixed, before.to(fixed.dtype), top_k)
        after = _later(before, fixed, top_k, capacity)
    elif router == "top_k":
        mask = chosen
    else:
        pair = (released if router == "maxscore_released" else reroute)(fixed, capacity)
        hot = one_hot(pair, experts)
        mask, chosen = hot.any(1), hot[:, 0]
    gates = torch.where(mask, values, 0)
    if router == "maxscore_released":
        after = None if state is None else state + 1
        factor = 1.0 if state is None else annealed(int(state))
        gates = gates * torch.where(hot[:, 0], 1.0, factor)
    share = chosen.sum(0).to(values.dtype) / (tokens * top_k)
    return Routing(
        mask=mask,
        gates=gates,
        wanted=wanted.sum(0),
        load=mask.sum(0),
        dropped=tokens * top_k - int(mask.sum()),
        auxiliary=experts * (share * values.mean(0)).sum(),
        prices=prices,
        state=after,
    )


def _matched(router, values, top_k, capacity):
    """(mask, prices) of the routers that solve for the whole batch."""
    if router == "optimum":
        return optimum(values, top_k, capacity)[:2]
    if router == "prices":
        prices = quantile_prices(values, top_k, capacity)
    else:
        prices = sinkhorn_prices(values, top_k, temperature=0.1, rounds=50)
    return rounded(values, prices, top_k, capacity), prices


def _auctioned(scores, values, capacity):
    """BASE: who holds a token keeps it, within the capacity; what nobody holds goes to the best expert with room."""
    held = one_hot(auction(scores, capacity), scores.shape[1])
    lead = torch.where(held, scores.max() - scores.min() + 1.0, 0.0)  # a holder comes before all others
    return rounded(scores + lead, torch.zeros_like(values[0]), 1, capacity)


def _later(prices, values, top_k, capacity):
    """The prices of the past after a batch: a round from the old ones, mixed in."""
    if capacity >= len(values) or top_k == values.shape[1]:
        return prices
    new = quantile_prices(values, top_k, capacity, rounds=1, middle=False, start=prices)
    mixed = (1 - MIXED) * prices + MIXED * new.to(prices.dtype)
    return mixed - mixed.min()


def _checked(scores, router, top_k, capacity, state):
    """(top_k, capacity) that fit. Raises ValueError with one sentence otherwise."""
    if router not in BOUND:
        raise ValueError(f"router must be one of {', '.join(ROUTERS)}; it is {router!r}.")
    calls.require_rank("tokens, experts", scores=scores)
    calls.require_alike(scores=scores)
    tokens, experts = scores.shape
    if not tokens or not experts:
        raise ValueError(f"scores need a token and an expert; their shape is {tuple(scores.shape)}.")
    calls.require_count("top_k", top_k)
    if top_k > experts:
        raise ValueError(f"top_k must be at most the {experts} experts; it is {top_k}.")
    if top_k != CHOICES.get(router, top_k):
        raise ValueError(f"router={router!r} gives each token {CHOICES[router]} of the experts; top_k is {top_k}.")
    if capacity is None:
        capacity = capacity_of(tokens, experts, top_k)
    elif BOUND[router] == "free" and router != "past_prices":
        raise ValueError(f"router={router!r} has no capacity; it is {capacity}: leave it out.")
    calls.require_count("capacity", capacity)
    if BOUND[router] == "fill":
        require_room(tokens, experts, top_k, capacity)
    if scores.device.type == "cpu" and not scores.isfinite().all():
        first = (~scores.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"scores must be finite; that of token {first[0]} for expert {first[1]} is {scores[*first]}.")
    if state is not None:
        wanted = () if router == "maxscore_released" else (experts,)
        if router not in STATEFUL:
            raise ValueError(f"router={router!r} carries no state from batch to batch; one was given.")
        if not isinstance(state, torch.Tensor) or state.shape != wanted:
            given = tuple(state.shape) if isinstance(state, torch.Tensor) else state
            raise ValueError(f"the state of router={router!r} must be a tensor of shape {wanted}; it is {given}.")
    return top_k, min(capacity, tokens)
