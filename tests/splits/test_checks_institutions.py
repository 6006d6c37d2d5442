"""The exercises on split data and moved knowledge: stubs fail, solutions pass, known mistakes are named."""

import math

import pytest
from support.house import assert_named, assert_solved


def scaffold(model, server, own, gradient, steps, rate):
    found = model
    for _ in range(steps):
        found = found - rate * (gradient(found) + server - own)
    return found, own - server + (model - found) / (steps * rate)


def wrong(change=None, correct=1):
    """A step with another sign of the correction, or another new variate made of the right parts."""

    def function(model, server, own, gradient, steps, rate):
        found = model
        for _ in range(steps):
            found = found - rate * (gradient(found) + correct * (server - own))
        return found, change(model, found, server, own, steps, rate) if change else own

    return function


def statistics(inputs, mean, variance, correction=0):
    return (inputs.mean(0) - mean).square().sum() + (inputs.var(0, correction=correction) - variance).square().sum()


SOLVED = {
    "splits.bytes": 64, "splits.uncertain": -math.log(2), "splits.scaffold": scaffold, "splits.statistics": statistics,
    "splits.drift": (0.0, 0.1, 0.2),
}  # fmt: skip
MISTAKES = [
    ("splits.bytes", 32, "That is FedAvg"),
    ("splits.bytes", 16, "four vectors per client"),
    ("splits.bytes", 48, "Both ways have two vectors"),
    ("splits.bytes", 4, "float32 has four bytes"),
    ("splits.bytes", 64e6, "megabytes are asked"),
    ("splits.uncertain", math.log(2), "The sign"),
    ("splits.uncertain", 0, "has an entropy"),
    ("splits.uncertain", -1, "in bits"),
    ("splits.scaffold", wrong(correct=-1), "sign of the correction"),
    ("splits.scaffold", wrong(correct=0), "That is FedAvg, as FedCVD's code runs"),
    ("splits.scaffold", wrong(lambda w, new, c, own, k, r: own - c), "updated with the new w"),
    ("splits.scaffold", wrong(lambda w, new, c, own, k, r: own - c + (w - new) / k * k / 3 / r), "not by epochs"),
    ("splits.scaffold", wrong(lambda w, new, c, own, k, r: own - c + (new - w) / (k * r)), "against the way it went"),
    ("splits.scaffold", wrong(lambda w, new, c, own, k, r: own + (w - new) / (k * r)), "c is missing"),
    ("splits.statistics", lambda x, m, v: statistics(x, m, v, 1), "unbiased one"),
    ("splits.statistics", lambda x, m, v: (x.mean(0) - m).square().sum(), "variances are missing"),
    ("splits.statistics", lambda x, m, v: statistics(x, m, v) / x.shape[1], "sums over the features"),
    ("splits.drift", (0.3, 0.2, 0.1), "comes nearer somewhere"),
    ("splits.drift", (0.1, 0.2, 0.3), "Begin with one step"),
    ("splits.drift", 3, "at least three"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
