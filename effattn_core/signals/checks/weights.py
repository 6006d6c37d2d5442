"""The hidden cases of the exercises on made-up signals: weights."""

import itertools
import math

import torch

from effattn_core.exercises import compare_number, exercise, known_mistake


@exercise("signals.weights", level="code")
def weights(function):
    """`function(gradients, meta_gradient)`: each example's weight, [batch]."""
    generator = torch.Generator().manual_seed(0)
    cases = [
        (torch.randn(n, 5, generator=generator).double(), torch.randn(5, generator=generator).double()) for n in (4, 9)
    ]
    cases.append((-torch.ones(3, 5).double(), torch.ones(5).double()))
    for gradients, meta in cases:
        raw = gradients @ meta
        kept = raw.clamp(min=0)
        wanted = kept / kept.sum() if kept.sum() > 0 else kept
        found = function(gradients.clone(), meta.clone())
        if not isinstance(found, torch.Tensor) or found.shape != wanted.shape:
            return f"Return one weight per example, {tuple(wanted.shape)}."
        if found.isnan().any():
            return "Where no example helps, 0 / 0 is not a number: then all weights are 0."
        if torch.allclose(found, wanted):
            continue
        flipped = (-raw).clamp(min=0)
        mistakes = (
            (raw.abs() / raw.abs().sum(), "abs() gives weight to examples that harm: clip them with max(0, ·)."),
            ((raw / raw.sum()).clamp(min=0), "Clip first, then normalise: else the weights do not sum to 1."),
            (flipped / flipped.sum().clamp(min=1e-30), "The sign is turned: aligned gradients lower the meta loss."),
            (raw.softmax(0), "Softmax gives everyone some weight; a rectifier gives those that harm none."),
            (kept, "They are clipped but not normalised: divide by their sum."),
        )
        return (
            known_mistake(found, mistakes)
            or f"It differs by {(found - wanted).abs().max():.2g}: max(0, ⟨g_i, G⟩), divided by the sum."
        )
    return None


@exercise("signals.alignment", level="pencil")
def alignment(answer):
    """The weight of the first of (3, 1), (-2, 0), (0, 2) against the meta gradient (2, 1)."""
    return compare_number(
        answer,
        7 / 9,
        [
            (7 / 5, "Products are 7, -4 and 2. The harmful one is clipped to 0 before the sum."),
            (7 / 13, "That takes the absolute value of -4; it is clipped to 0."),
            (7, "That is the product; divide by the sum of those that are kept."),
        ],
    )


@exercise("signals.viterbi", level="code")
def viterbi(function):
    """`function(pairs, steps)`: the best path's states; pairs [time, states], steps [states, states], log scores."""
    generator = torch.Generator().manual_seed(1)
    for time, states in ((1, 3), (4, 2), (5, 3)):
        pairs = torch.randn(time, states, generator=generator).double()
        steps = 2 * torch.randn(states, states, generator=generator).double()

        def score(path, pairs=pairs, steps=steps):
            total = sum(pairs[place, state].item() for place, state in enumerate(path))
            return total + sum(steps[one, other].item() for one, other in itertools.pairwise(path))

        best = max(itertools.product(range(states), repeat=time), key=score)
        found = [int(each) for each in function(pairs.clone(), steps.clone())]
        if len(found) != time:
            return f"Return one state per position, {time} of them; you gave {len(found)}."
        if math.isclose(score(found), score(best), abs_tol=1e-9):
            continue
        if found == pairs.argmax(1).tolist():
            return "Each word alone is at its best there; the steps between words count too."
        if found[::-1] == list(best):
            return "The path is turned round: it is read from its end."
        return (
            f"It scores {score(found):.3f}; trying all paths finds {score(best):.3f}. Keep the best way per last state."
        )
    return None
