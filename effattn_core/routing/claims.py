"""What the paper on MaxScore, its released code and its neighbours say, and how this library measures it.

The paper's abstract alone could be read: its claims stand without figures, and no table of it is repeated.
"""

import torch

from effattn_core.ledger import Claim, Figure, at_least, at_most, exact
from effattn_core.routing.future import changed_before, skewed
from effattn_core.routing.interface import route, violation
from effattn_core.routing.optimum import gap, optimum, value_of
from effattn_core.routing.prices import priced, quantile_prices, rounded
from effattn_core.routing.routers import nudged

PAPER, RELEASED = "Dong et al. 2025 (MaxScore)", "dongbw18/MaxScore"
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


def _over_rerouting(skew=2.0):
    """The optimum's value over that of the released rerouting variant."""
    ratios = [
        optimum(values, TOP_K, CAPACITY).value
        / value_of(values, route(scores, router="maxscore_reroute", top_k=TOP_K).mask)
        for scores, values in _drawn(skew)
    ]
    return sum(ratios) / len(ratios)


def _released_ratio(skew=3.0):
    ratios = [
        value_of(values, route(scores, router="maxscore_released", top_k=TOP_K).mask)
        / optimum(values, TOP_K, CAPACITY).value
        for scores, values in _drawn(skew)
    ]
    return sum(ratios) / len(ratios)


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
    return 100 * changed_before("maxscore_released", tokens=64, trials=10)


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
        measured=Figure(_over_rerouting, "times the value of rerouting"),
        rule=at_least(1.05),
        conditions="the optimum against the released rerouting variant at skew 2; without a skew both are near 1",
    ),
    Claim(
        topic="routing",
        paper=PAPER,
        where="abstract, judged by the released code (KM.cpp)",
        statement="Routing is solved as that flow problem.",
        measured=Figure(_released_ratio, "of the optimum's value, by the released solver"),
        rule=at_least(0.99),
        conditions="skew 3; without a skew it is within a thousandth",
    ),
    Claim(
        topic="routing",
        paper="kexue.fm 11619",
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
        statement="A language model is trained to predict each token from those before it.",
        measured=Figure(_leak, "% of earlier tokens changed"),
        rule=at_most(0.0),
        conditions="the second half of a sequence drawn anew; 8 experts, ten draws",
    ),
]
