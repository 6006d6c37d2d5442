"""Comparing two systems that judged the same cases: intervals, a paired test, and what published decimals give away.

A system's verdicts are booleans, one per case, True where it was right. The methods are textbook: Wilson 1927,
McNemar 1947 in its exact form, the bootstrap over cases.
"""

import math
from fractions import Fraction
from statistics import NormalDist

import torch

UPTO = 1000  # cases: test sets looked for behind published decimals


def wilson(right, cases, level=0.95):
    """(low, high): the accuracies that `right` of `cases` are compatible with, by the score interval.

    All p whose distance from right/n is at most z √(p(1-p)/n): the spread is that of p, not of the estimate, so that
    it lies in [0, 1] and has a width where all cases are right. Raises ValueError for counts that cannot be.
    """
    share, z = _share(right, cases), NormalDist().inv_cdf((1 + level) / 2)
    middle = (share + z * z / (2 * cases)) / (1 + z * z / cases)
    reach = z / (1 + z * z / cases) * math.sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def wald(right, cases, level=0.95):
    """(low, high) of the interval that is mostly drawn, share ± z √(share(1-share)/n): of no width at 0 and 1."""
    share, z = _share(right, cases), NormalDist().inv_cdf((1 + level) / 2)
    reach = z * math.sqrt(share * (1 - share) / cases)
    return share - reach, share + reach


def mcnemar(first_alone, second_alone):
    """The exact two-sided p of McNemar's test, from the cases on which two systems disagree.

    first_alone, second_alone: cases that only this system had right. Equal systems split them like coin flips:
    p = min(1, 2 Σ_{i ≤ min} C(m, i) / 2^m) with m their number. Without a disagreement p is 1.
    """
    if min(first_alone, second_alone) < 0:
        raise ValueError(f"counts of disagreements are at least 0; they are {first_alone} and {second_alone}.")
    total = first_alone + second_alone
    tail = sum(math.comb(total, each) for each in range(min(first_alone, second_alone) + 1))
    return min(1.0, 2 * tail / 2**total)


def disagreements(first, second):
    """(first_alone, second_alone) of two systems' verdicts on the same cases: [cases] bool, each."""
    first, second = _paired(first, second)
    return int((first & ~second).sum()), int((second & ~first).sum())


def unpaired(right, others, cases):
    """The two-sided p of the z-test that takes two systems for two samples of people: blind to the pairs."""
    gap, pooled = abs(_share(right, cases) - _share(others, cases)), (right + others) / (2 * cases)
    spread = math.sqrt(2 * pooled * (1 - pooled) / cases)
    return 1.0 if spread == 0 else 2 * (1 - NormalDist().cdf(gap / spread))


def paired_bootstrap(first, second, *, draws=2000, level=0.95, seed=0):
    """(gap, low, high): how far the first system's accuracy is above the second's, by drawing cases with both verdicts.

    first, second: [cases] bool. A case is drawn with both its verdicts, so that hard cases are hard for both.
    """
    first, second = _paired(first, second)
    gap = first.double() - second.double()
    generator = torch.Generator().manual_seed(seed)
    picked = torch.randint(len(gap), (draws, len(gap)), generator=generator)
    low, high = gap[picked].mean(1).quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return gap.mean().item(), low.item(), high.item()


def sizes_that_fit(decimals, upto=UPTO):
    """The numbers of cases n ≤ upto for which every published share is some k / n, rounded as printed.

    decimals: texts, ".820" and not .82, so that their last zeros count. Halves may be rounded either way.
    """
    shares = [(Fraction(each), Fraction(1, 2 * 10 ** len(each.partition(".")[2]))) for each in _texts(decimals)]

    def fits(cases):
        nearest = ((share, reach, Fraction(round(share * cases), cases)) for share, reach in shares)
        return all(abs(near - share) <= reach for share, reach, near in nearest)

    return [cases for cases in range(1, upto + 1) if fits(cases)]


def winners(cases, gap, disagree):
    """How an experiment on `cases` comes out: shares of {"right", "tie", "wrong", "seen"}, computed, not simulated.

    gap: by how much the better system's true accuracy is above; disagree: the share of all people on whom exactly one
    of both is right, at least the gap. "wrong": the worse system has more cases right; "seen": McNemar's p < .05 in
    favour of the better one. Raises ValueError for a gap that the disagreements cannot hold.
    """
    if not 0 <= gap <= disagree <= 1:
        raise ValueError(f"a gap lies between 0 and the share that disagrees, {disagree:g}; it is {gap:g}.")
    found = dict(right=0.0, tie=0.0, wrong=0.0, seen=0.0)
    favours = (disagree + gap) / (2 * disagree) if disagree else 0.5  # one disagreement, for the better system
    for total in range(cases + 1):
        weight = _binomial(cases, disagree, total)
        if weight < 1e-12:
            continue
        for better in range(total + 1):
            mass = weight * _binomial(total, favours, better)
            worse = total - better
            found["right" if better > worse else "wrong" if better < worse else "tie"] += mass
            if better > worse and mass > 1e-12 and mcnemar(worse, better) < 0.05:
                found["seen"] += mass
    return found


def brier(probability, outcome):
    """The mean squared distance of a probability, [cases], from what came, 0 or 1: proper, so honesty is best."""
    return (probability - outcome.to(probability)).square().mean().item()


def calibration_error(probability, outcome, bins=10):
    """Σ_b n_b/n · |mean outcome - mean probability| over equally wide bins of the probability: ECE.

    probability, outcome: [..., cases]; leading dimensions are repetitions, and the result has them.
    """
    outcome = outcome.to(probability)
    place = (probability * bins).long().clamp(0, bins - 1)
    apart = torch.zeros(*probability.shape[:-1], bins, dtype=probability.dtype)
    apart.scatter_add_(-1, place, outcome - probability)
    return apart.abs().sum(-1) / probability.shape[-1]


def calibration_bias(probability, bins=10, *, draws=2000, seed=0):
    """The calibration error that a perfect forecaster of these probabilities has on average: outcomes are drawn."""
    generator = torch.Generator().manual_seed(seed)
    probability = probability.expand(draws, -1).contiguous()
    return calibration_error(probability, torch.bernoulli(probability, generator=generator), bins).mean().item()


def _binomial(total, share, count):
    """P(count of total), by logarithms."""
    if share in (0, 1):
        return float(count == total * share)
    chosen = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    return math.exp(chosen + count * math.log(share) + (total - count) * math.log1p(-share))


def _share(right, cases):
    if cases < 1 or not 0 <= right <= cases:
        raise ValueError(f"of at least one case between none and all are right; it is {right} of {cases}.")
    return right / cases


def _paired(first, second):
    first, second = (torch.as_tensor(each, dtype=torch.bool) for each in (first, second))
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            "two systems are paired by their verdicts on the same cases, [cases] each; "
            f"they are {list(first.shape)} and {list(second.shape)}."
        )
    return first, second


def _texts(decimals):
    for each in decimals:
        if not isinstance(each, str) or "." not in each:
            raise ValueError(f'a published share is a text with its last zeros, ".820"; it is {each!r}.')
    return decimals
