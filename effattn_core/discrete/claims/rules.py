"""Claims on rule nets: activations, estimators, random binarisation."""

import math
from statistics import fmean

from effattn_core.discrete.activations import LAF, PRODUCT, mean_slope
from effattn_core.ledger import Claim, Figure, at_least, beyond, exact, two_errors
from effattn_core.recordings import measured

RUN = "discrete/training-cpu"
RRL, JOURNAL, CRS = "Wang et al. 2021 (RRL)", "Wang et al. 2024 (RRL)", "Wang et al. 2020 (CRS)"


def tests(**wanted):
    """Test accuracies of the recorded nets, seed by seed."""
    return [row["test"] for row in sorted(measured(RUN, **wanted), key=lambda row: row["seed"])]


def difference(one, other):
    """(mean difference seed by seed, two standard errors of it) of two lists of accuracies."""
    found = [a - b for a, b in zip(one, other, strict=True)]
    return fmean(found), two_errors(found)


def against_straight():
    """Grafting over the straight-through estimator, on the digits."""
    return difference(
        tests(table="digits", arm="grafted NLAF .9/3/3"), tests(table="digits", arm="straight-through")
    )  # fmt: skip


def against_single():
    """Grafting layer by layer over grafting once, three layers deep."""
    return difference(
        tests(what="depth", layers=3, estimator="grafted"), tests(what="depth", layers=3, estimator="single")
    )  # fmt: skip


def against_uncut():
    """A quarter of the weights cut at random in training over none: the cut nets' accuracy, four levels deep."""
    return difference(tests(what="random", share=0.25), tests(what="random", share=0.0))


RULE_CLAIMS = [
    Claim(
        topic="discrete",
        paper=RRL,
        where="abstract and the released activations",
        statement="The improved logical activation keeps a gradient where the product's vanishes.",
        formula=Figure(lambda: math.log10(mean_slope(LAF, 1024) / mean_slope(PRODUCT, 1024)), "powers of ten"),
        rule=at_least(6.0),
        conditions="mean slope of one weight at the start, 1,024 inputs, closed forms",
    ),
    Claim(
        topic="discrete",
        paper=RRL,
        where="README of the released code",
        statement="Tic-tac-toe is learned without an error.",
        published=1.0,
        unit="accuracy",
        measured=Figure(lambda: fmean(tests(what="boards")), "accuracy on held-out boards"),
        rule=exact(0.005),
        conditions="the README's settings for NLAF, our own code, 400 epochs, three seeds, splits of our own",
    ),
    Claim(
        topic="discrete",
        paper=RRL,
        where="abstract: Gradient Grafting optimises the discrete model",
        statement="Grafting trains a hard net better than the straight-through estimator.",
        measured=Figure(lambda: against_straight()[0], "accuracy more, digits"),
        rule=beyond(lambda: against_straight()[1], at_least(0.0)),
        conditions="512 literals, ten classes, 700 steps, three seeds; noise is two standard errors",
    ),
    Claim(
        topic="discrete",
        paper=JOURNAL,
        where="abstract and the released code",
        statement="Grafting layer by layer helps where grafting once fails, in deeper nets.",
        measured=Figure(lambda: against_single()[0], "accuracy more, three layers"),
        rule=beyond(lambda: against_single()[1], at_least(0.0)),
        conditions="tic-tac-toe, NLAF .9/3/3, 700 steps, three seeds; noise is two standard errors",
    ),
    Claim(
        topic="discrete",
        paper=CRS,
        where="abstract: Random Binarization",
        statement="Cutting a random share of the weights in training narrows the gap that the last cut opens.",
        measured=Figure(lambda: against_uncut()[0], "accuracy more after the cut, a quarter cut"),
        rule=beyond(lambda: against_uncut()[1], at_least(0.0)),
        conditions="tic-tac-toe, four levels (32, 16, 32, 2), 100 epochs, three seeds; noise is two standard errors",
    ),
]
