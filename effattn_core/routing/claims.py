"""What the paper on MaxScore, its released code and its neighbours say, and how this library measures it.

The paper's abstract alone could be read: its claims stand without figures, and no table of it is repeated.
"""

from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, at_least, at_most, beyond, exact
from effattn_core.recordings import measured
from effattn_core.routing.future import skewed
from effattn_core.routing.interface import route, violation
from effattn_core.routing.optimum import gap
from effattn_core.routing.prices import priced, quantile_prices, rounded
from effattn_core.routing.routers import nudged

PAPER, RELEASED = "Dong et al. 2025 (MaxScore)", "dongbw18/MaxScore"
RUN, BASELINES = "routing/training-cpu", ("GShard, balancing loss", "top-k, balancing loss")
TOKENS, EXPERTS, TOP_K = 128, 16, 2
CAPACITY = TOKENS * TOP_K // EXPERTS


def _drawn(skew, seeds=3):
    for seed in range(seeds):
        scores = skewed(TOKENS, EXPERTS, skew, torch.Generator().manual_seed(seed))
        yield scores, scores.softmax(1)


def _dropped():
    """Choices that the released solver and the optimum leave without a place, at skews 0 to 3."""
    routers = ("optimum", "prices")
    return sum(route(s, router=r, top_k=TOP_K).dropped for skew in range(4) for s, _ in _drawn(skew) for r in routers)


def _recorded(router, skew):
    """Worth over the optimum's, the mean of the recorded seeds."""
    return fmean(row["ratio"] for row in measured(RUN, what="value", router=router, skew=float(skew)))


def _over_rerouting():
    return 1 / _recorded("maxscore_reroute", 2)


def _released_ratio():
    return _recorded("maxscore_released", 3)


def _losses(name):
    """Losses on held-out text as the model decodes, one per seed."""
    return [row["decoding"] for row in measured(RUN, what="text", name=name)]


def _gain():
    """Nats by which the released MaxScore is above the better of the two baselines with a balancing loss."""
    return fmean(_losses("MaxScore, released")) - min(fmean(_losses(name)) for name in BASELINES)


def _noise():
    """The widest spread over seeds among those models."""
    return max(max(found) - min(found) for found in map(_losses, ("MaxScore, released", *BASELINES)))


def _widest_gap():
    """The widest certified gap of prices and rounding, in per cent, skews 0 to 3."""
    gaps = []
    for skew in range(4):
        for _, values in _drawn(skew):
            prices = quantile_prices(values, TOP_K, CAPACITY)
            mask = rounded(values, prices, TOP_K, CAPACITY)
            gaps.append(gap(values, mask, prices, TOP_K, CAPACITY))
    return 100 * max(gaps)


def _wrong_sign():
    """MaxVio after 300 steps with the sign of the released baseline, over that of the right one."""
    found = []
    for sign in (-1, 1):
        generator = torch.Generator().manual_seed(0)
        column, bias = torch.randn(EXPERTS, generator=generator), torch.zeros(EXPERTS)
        for _ in range(300):
            load = priced((torch.randn(512, EXPERTS, generator=generator) + column).sigmoid(), -bias, TOP_K).sum(0)
            bias = nudged(bias, load, sign * 1e-3)
        found.append(violation(load))
    return found[0] / found[1]


def _leak():
    (row,) = measured(RUN, what="prefix", router="maxscore_released")
    return 100 * row["share"]


CLAIMS = [
    Claim(
        topic="routing",
        paper=PAPER,
        where="abstract",
        statement="Routing as a minimum-cost maximum-flow problem drops no token.",
        measured=Figure(_dropped, "choices dropped"),
        rule=exact(),
        conditions=f"the optimum and prices; {TOKENS} tokens, {EXPERTS} experts, two each, skews 0 to 3, three seeds",
    ),
    Claim(
        topic="routing",
        paper=PAPER,
        where="abstract",
        statement="It removes the limits of iterative rerouting.",
        measured=Figure(_over_rerouting, "times the worth of rerouting"),
        rule=at_least(1.05),
        conditions="the optimum against the released rerouting variant, 512 tokens, 16 experts, skew 2, three seeds",
    ),
    Claim(
        topic="routing",
        paper=PAPER,
        where="abstract, judged by the released code (KM.cpp)",
        statement="Routing is modelled as a minimum-cost maximum-flow problem.",
        measured=Figure(_released_ratio, "of the flow's optimum, by the released solver"),
        rule=at_least(0.99),
        conditions=(
            "512 tokens, 16 experts, skew 3, three seeds; wanted: 0.99; the solver of the paper's own runs is not known"
        ),
    ),
    Claim(
        topic="routing",
        paper=PAPER,
        where="abstract",
        statement="It reaches lower losses at equal operations than constrained and unconstrained baselines.",
        measured=Figure(_gain, "nats above the better of GShard and top-k with a balancing loss, as they decode"),
        rule=beyond(_noise, at_most(0.0)),
        conditions="two layers, letters of Shakespeare, three seeds; noise is the widest spread over seeds",
    ),
    Claim(
        topic="routing",
        paper="Su 2026 (quantile balancing)",
        where="read in notes",
        statement="Prices by quantiles come near the optimum in a few rounds of sorting.",
        measured=Figure(_widest_gap, "% certified gap, the widest"),
        rule=at_most(1.0),
        conditions="20 rounds by the middle and rounding, skews 0 to 3",
        read=False,
    ),
    Claim(
        topic="routing",
        paper="Wang et al. 2024 (loss-free balancing)",
        where="the rule, as in DeepSeek-V3's released code",
        statement="A bias that is raised where the load is low balances; MaxScore's baseline has the sign turned.",
        measured=Figure(_wrong_sign, "times the imbalance with the turned sign"),
        rule=at_least(5.0),
        conditions="300 steps of 512 tokens, fixed skew, sigmoid scores, rate 0.001",
    ),
    Claim(
        topic="routing",
        paper=RELEASED,
        where="released code: a matching per sequence, in a decoder",
        statement="In a decoder a token depends on those before it alone.",
        measured=Figure(_leak, "% of earlier tokens changed"),
        rule=at_most(0.0),
        conditions="the second half of 128 tokens drawn anew; 8 experts, two each, 20 draws",
    ),
]
