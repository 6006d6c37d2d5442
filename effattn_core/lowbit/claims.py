"""What the paper on SOLO says, and how this library measures it."""

from statistics import fmean, stdev

from effattn_core.ledger import FAILED, SAME, Claim, Figure, at_least, beyond, exact, within
from effattn_core.lowbit import costs, theory
from effattn_core.recordings import measured

PAPER = "Xu et al. 2025 (SOLO)"
RUN = "lowbit/training-cpu"
HERE = "two layers, letters of Shakespeare, 300 steps, {} seeds; noise is the spread of paired differences"
RATE = 3e-3


def losses(name, beta1, rate=RATE):
    """Held-out losses by seed of an arm of the recorded runs."""
    return {row["seed"]: row["loss"] for row in measured(RUN, what="text", name=name, beta1=beta1, rate=rate)}


def differences(name, beta1, other="AdamW", other_beta1=None):
    """What an arm's loss lies above another's, seed by seed: the same start and the same text."""
    mine, theirs = losses(name, beta1), losses(other, beta1 if other_beta1 is None else other_beta1)
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def _noise(*arm, **other):
    """The standard deviation, over seeds, of an arm's differences from another."""
    return stdev(differences(*arm, **other))


def _no_worse(*arm):
    """SAME if an arm costs no more than what its differences spread over seeds."""

    def judge(numbers):
        return SAME if numbers.ours <= judge.noise() else FAILED

    judge.noise = lambda: _noise(*arm)
    return judge


def _conditions():
    return HERE.format(len(losses("AdamW", 0.9)))


def _cost(name, beta1):
    return lambda: fmean(differences(name, beta1))


def _gains():
    """By seed, what two bits cost more at β1 = 0.9 than at 0.5, each against float32 at the same β1."""
    pairs = zip(differences("SOLO 2/2", 0.9), differences("SOLO 2/2", 0.5), strict=True)
    return [high - low for high, low in pairs]


def _momentum_gain():
    return fmean(_gains())


def _naive():
    return min(losses("naive 2/2", 0.9).values()) - max(losses("AdamW", 0.9).values())


def _log_over_linear():
    return fmean(differences("4/2, linear v", 0.8, other="SOLO 4/2"))


def _gibibytes(name):
    return lambda: costs.state_memory(costs.LLAMA_7B, costs.design(name)) / 2**30


def _printed_cells(radius=None):
    """Cells of the printed momentum table that radii (by default the exact ones) give to three decimals."""
    return sum(
        abs(theory.momentum_rule(after, before, radius=radius) - printed) < 6e-4
        for after, row in theory.PRINTED_MOMENTUM.items()
        for before, printed in row.items()
    )


def _cells():
    return sum(map(len, theory.PRINTED_MOMENTUM.values()))


def _cells_off():
    return _cells() - _printed_cells()


def _radii_told():
    exact_ones, rounded = _printed_cells(), _printed_cells(theory.PRINTED_RADII.get)
    return f"as printed: {exact_ones} of {_cells()} by exact radii, {rounded} of {_cells()} by rounded ones"


def _by_theorem(kind, bits):
    return Figure(lambda: theory.sufficient_threshold(kind, bits), "β, by the theorem's formula")


def _eight_bit_linear():
    return (
        "1 less half the gap between levels; by experiment over all levels, signals of 0 and of the scale, they freeze "
        f"from {theory.freezing_threshold('linear_zero', 8):.3f} on"
    )


def _half_frozen():
    return (
        "1 less the median of half the gaps; by experiment half of the levels freeze from "
        f"{theory.freezing_threshold('exponent', 4, share=0.5):.3f} on: what is printed suffices, and is not the least"
    )


CLAIMS = [
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table of LLaMA-7B tuning",
        statement="States of LLaMA 7B in 4 and 2 bits.",
        published=5.18,
        unit="GB",
        formula=Figure(_gibibytes("SOLO 4/2"), "GiB"),
        rule=within(1.05),
        conditions="6.74e9 parameters, blocks of 128, three numbers of four bytes per block; its GB taken as GiB",
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table of LLaMA-7B tuning",
        statement="States of LLaMA 7B in float32.",
        published=50.24,
        unit="GB",
        formula=Figure(_gibibytes("AdamW, float32"), "GiB"),
        rule=within(1.01),
        conditions="6.74e9 parameters, eight bytes each; its GB appear to be GiB",
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="theorem 3.1",
        statement="Linear levels of 8 bits freeze from this β on.",
        published=0.999,
        unit="β",
        formula=_by_theorem("linear_zero", 8),
        rule=exact(5e-4),
        conditions=_eight_bit_linear,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="theorem 3.1",
        statement="Half of the exponent map's levels, 4 bits, are frozen from this β on.",
        published=0.966,
        unit="β",
        formula=_by_theorem("exponent", 4),
        rule=exact(5e-4),
        conditions=_half_frozen,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table of the momentum rule",
        statement="The printed β' of the rule, for 2, 3 and 4 bits from 5 to 8, follow from it.",
        published=0,
        unit="entries off, as printed",
        formula=Figure(_cells_off, "of them off by exact radii"),
        rule=exact(0.5),
        conditions=_radii_told,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table 1 (the columns SOLO 4/2 and 32 bits)",
        statement="States in 4 and 2 bits train as float32 does.",
        measured=Figure(_cost("SOLO 4/2", 0.8), "nats above float32, both at β1 0.8"),
        rule=_no_worse("SOLO 4/2", 0.8),
        conditions=_conditions,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table 1 (the columns SOLO 2 and 32 bits)",
        statement="States in 2 bits train nearly as float32 does.",
        measured=Figure(_cost("SOLO 2/2", 0.5), "nats above float32, both at β1 0.5"),
        rule=_no_worse("SOLO 2/2", 0.5),
        conditions=_conditions,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="table 1 (the column 2-bit)",
        statement="Two bits without SOLO's levels and dice break training.",
        measured=Figure(_naive, "nats above float32, the best seed against its worst"),
        rule=at_least(0.5),
        conditions=_conditions,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="figure 7",
        statement="Two bits want a lower β1 than 0.9: here 0.5 against 0.9.",
        measured=Figure(_momentum_gain, "nats less cost at 0.5 than at 0.9"),
        rule=beyond(lambda: stdev(_gains()), at_least(0.0)),
        conditions=_conditions,
    ),
    Claim(
        topic="lowbit",
        paper=PAPER,
        where="ablation of v",
        statement="Logarithmic levels keep v better than linear ones.",
        measured=Figure(_log_over_linear, "nats that linear levels, rounded to the nearest, lie above"),
        rule=beyond(lambda: _noise("4/2, linear v", 0.8, other="SOLO 4/2"), at_least(0.0)),
        conditions=_conditions,
    ),
]
