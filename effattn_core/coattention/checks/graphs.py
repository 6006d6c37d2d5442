"""The hidden cases on attention over graphs."""

import math

import torch

from effattn_core.coattention.attend import attend
from effattn_core.coattention.slices import mass
from effattn_core.coattention.votes import agreement, votes
from effattn_core.exercises import compare_number, exercise, known_mistake

CHANCE = 0.2  # of pointing at one of five pictures


def _summed(given):
    """exp(log_sum_exp) · output of what a reader returned; 0 where a row sees nothing."""
    query, key, value, bias, mask = given
    output, _, log_sum_exp = attend(query, key, value, bias=bias, mask=mask, scale=1.0)
    return log_sum_exp.exp() * output[..., 0], output[..., 0]


@exercise("coattention.ballot", level="code")
def ballot(function):
    """`function(answers, weight)`: (query, key, value, bias, mask) whose exp(log_sum_exp) · output are the votes."""
    for seed, count in enumerate((5, 1, 7, 12)):
        generator = torch.Generator().manual_seed(seed)
        answers = torch.randint(0, 3, (count,), generator=generator)
        weight = torch.randn(count, generator=generator).double()
        given = function(answers.clone(), weight.clone())
        if not isinstance(given, (tuple, list)) or len(given) != 5:
            return "Return five things: query, key, value, bias and mask; a bias that you do not need is None."
        if given[4] is None and given[3] is None:
            return "Who agrees with whom must stand somewhere: in the mask."
        wanted, (found, mean) = votes(answers, weight), _summed(given)
        if found.shape != wanted.shape:
            return (
                f"value must be [answers, 1]: the sums should be {tuple(wanted.shape)}, and are {tuple(found.shape)}."
            )
        if torch.allclose(found, wanted, atol=1e-12):
            continue
        same = agreement(answers).double()
        mistakes = (
            (same.sum(1), "That counts heads: the value is the weight of the voter, not 1."),
            (weight.sum().expand(count), "Everybody is counted: the mask lets through only those who agree."),
            (same @ weight - weight, "A respondent agrees with himself: leave the diagonal of the mask."),
            (same @ weight**2, "The weight enters twice: once as a value is enough, and a logarithm of it is no bias."),
        )
        if said := known_mistake(found, mistakes, atol=1e-9):
            return said
        if torch.allclose(mean, wanted, atol=1e-9) or torch.allclose(found, wanted / same.sum(1), atol=1e-9):
            return "The sum is divided by the number of those who agree: a bias of 0 gives log_sum_exp = ln of it."
        return (
            f"With {count} answers it differs by {(found - wanted).abs().max():.2g}: scores must be 0, so query is 0."
        )
    return None


@exercise("coattention.never", level="pencil")
def never(answer):
    """The chance that the gap never ends, ρ = .5, ω = -.8."""
    rate = math.exp(0.5)
    return compare_number(
        answer,
        1 - mass(0.5, -0.8),
        [
            (mass(0.5, -0.8), "That is the chance that it does end; the rest is asked."),
            (0, "The rate falls so fast that its integral is finite: e^ρ / |ω|, and exp(-that) is left."),
            (math.exp(-rate), "The whole integral of the rate is e^ρ / |ω|, not e^ρ."),
            (math.exp(-0.5 / 0.8), "ρ is a logarithm: the rate at the start is e^ρ."),
            (math.exp(-rate * 0.8), "The integral of e^(ρ + ωτ) divides by |ω|."),
        ],
    )


@exercise("coattention.bridge", level="open")
def bridge(answer):
    """(share of mixed triples, accuracy from language 1 to 2) of a run of the reader's."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "Give two numbers: the share of mixed triples, and the accuracy from language 1 to language 2."
    share, found = answer
    if not 0 < share <= 0.5:
        return f"A share above 0 and at most one half is asked: {share:g} is not. How few are enough?"
    if not 0 <= found <= 1:
        return f"An accuracy lies between 0 and 1; {found:g} does not."
    if found < 2 * CHANCE:
        return f"{found:.2f} is no bridge yet; chance is {CHANCE}. Take more mixed triples, or more steps."
    return None
