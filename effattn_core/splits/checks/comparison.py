"""The hidden cases of the exercises on linking and on comparisons."""

import math

from effattn_core.exercises import compare_number, exercise
from effattn_core.splits import comparison

PUBLISHED = ((".737", ".789"), (".737", ".789", ".632", ".763"), (".820", ".852"), (".5",), (".667", ".333"))
PAIRS = ((0, 0), (5, 0), (0, 6), (7, 2), (3, 3), (12, 25), (1, 9))


@exercise("splits.sizes", level="code")
def sizes(function):
    """`function(decimals)`: the least number of cases for which all published shares are possible."""
    for decimals in PUBLISHED:
        found, wanted = function(list(decimals)), comparison.sizes_that_fit(decimals)[0]
        if found == wanted:
            continue
        singles = [comparison.sizes_that_fit([each])[0] for each in decimals]
        if found == max(singles) or found == min(singles):
            return "That fits one of the shares alone: a single number of cases has to fit them all."
        if found == math.lcm(*singles):
            return "Sizes that fit alone need no common multiple: another numerator may round to the same digits."
        if not isinstance(found, int):
            return f"Return one whole number, the least that fits; it is {found!r}."
        return f"For {', '.join(decimals)} the least is another than {found}: is k / n rounded to the printed digits?"
    return None


@exercise("splits.mcnemar", level="code")
def mcnemar(function):
    """`function(first_alone, second_alone)`: the exact two-sided p."""
    for first, second in PAIRS:
        try:
            found = function(first, second)
        except ZeroDivisionError:
            return f"With {first} and {second} it divides by 0: without a disagreement p is 1."
        wanted = comparison.mcnemar(first, second)
        if math.isclose(found, wanted, rel_tol=1e-9):
            continue
        if found > 1:
            return f"With {first} and {second} p is {found:.3g}: both tails share the middle, so cut it at 1."
        if math.isclose(2 * found, wanted, rel_tol=1e-9):
            return "That is one tail: the other system could have been ahead as well, so double it."
        total = first + second
        z = (first - second) / math.sqrt(total) if total else 0
        if math.isclose(found, math.erfc(abs(z) / math.sqrt(2)), rel_tol=1e-6):
            return "That is the normal approximation; with a handful of disagreements, count."
        return f"With {first} and {second} disagreements it is {found:.4g}, and not the binomial's {wanted:.4g}."
    return None


@exercise("splits.one_way", level="pencil")
def one_way(answer):
    """How many disagreements, all one way, are needed for p < .05."""
    return compare_number(
        answer, 6, [(5, "2 · (1/2)⁵ is .0625: one tail alone would be below .05."), (7, "Six suffice: 2 / 2⁶ = .031.")]
    )


@exercise("splits.ceiling", level="pencil")
def ceiling(answer):
    """End-to-end accuracy of a re-ranker with normalised accuracy .9 over a recall of .6."""
    return compare_number(
        answer,
        0.54,
        [
            (0.9, "That leaves out mentions whose entity was not retrieved: they are wrong as well."),
            (0.6, "That is the ceiling: a re-ranker without mistakes."),
            (0.75, "Shares multiply, they are not averaged."),
        ],
    )


@exercise("splits.lucky", level="open")
def lucky(answer):
    """A function (cases, gap, disagree) -> share of experiments that the worse system wins."""
    if not callable(answer):
        return "Give the function."
    for cases, gap, disagree in ((20, 0.03, 0.2), (61, 0.05, 0.2)):
        found, wanted = answer(cases, gap, disagree), comparison.winners(cases, gap, disagree)
        if abs(found - wanted["wrong"]) > 0.03:
            tied = abs(found - wanted["wrong"] - wanted["tie"]) <= 0.03
            return "A tie is no win: count it apart." if tied else f"{found:.3f} is not near {wanted['wrong']:.3f}."
    return None
