"""Routing tokens to experts: every router by one call, the optimum under a capacity, and prices that come near it."""

from effattn_core.routing.experts import DECODES, MixtureOfExperts, mixed, oracle
from effattn_core.routing.interface import BOUND, CAUSAL, ROUTERS, Routing, capacity_of, route, violation
from effattn_core.routing.optimum import Optimum, dual, gap, optimum, replicated, value_of
from effattn_core.routing.prices import priced, quantile_prices, rounded
from effattn_core.routing.routers import annealed, nudged, soft_top_k

__all__ = [
    "BOUND",
    "CAUSAL",
    "DECODES",
    "MixtureOfExperts",
    "Optimum",
    "ROUTERS",
    "Routing",
    "annealed",
    "capacity_of",
    "dual",
    "gap",
    "mixed",
    "nudged",
    "optimum",
    "oracle",
    "priced",
    "quantile_prices",
    "replicated",
    "rounded",
    "route",
    "soft_top_k",
    "value_of",
    "violation",
]
