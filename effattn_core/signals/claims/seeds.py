"""What a comparison over few seeds can say: differences of two arms, paired by seed, and how far chance reaches."""

from statistics import fmean, stdev

from scipy.stats import t

from effattn_core.ledger import Figure, at_least, beyond

REACH = "noise reaches half of Student's 95 % interval of the paired differences"


def by_seed(rows, field):
    """The mean of a field for each seed, in the order of the seeds."""
    seeds = sorted({row["seed"] for row in rows})
    return [fmean(row[field] for row in rows if row["seed"] == seed) for seed in seeds]


def reach(differences):
    """Half of Student's 95 % interval: 2.5 deviations for three seeds. They share test data, so it is too short."""
    many = len(differences)
    return t.ppf(0.975, many - 1) * stdev(differences) / many**0.5


def compared(differences, unit):
    """(figure, rule) of a comparison, as keywords of a Claim: a direction, unless chance reaches as far.

    differences: a function without arguments, to a number per seed.
    """
    figure = Figure(lambda: fmean(differences()), unit)
    return dict(measured=figure, rule=beyond(lambda: reach(differences()), at_least(0.0)))
