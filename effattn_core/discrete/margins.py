"""Losses of several labels with a learned threshold: what a missing label does to each (eq. discrete-margins).

Every loss takes margin, floating [..., relations]: the score of a relation minus the score of the threshold class; and
labels, bool of its shape, true where the relation is labelled. It returns [...], a loss per row. Sources: ATL is
`losses.py` of wzhouad/ATLOP; SAT, MeanSAT, AFL, HingeABL and AML are `losses.py` of Jize-W/HingeABL. COMM's formula
(arXiv 2503.13885) was not readable: `concentrated` is a RECONSTRUCTION from its abstract, and ours.
"""

import math

import torch
from torch.nn import functional

HINGE = 5.0  # HingeABL's m
LIMIT = 15.0  # of margins that would go on for ever
softplus = functional.softplus


def _threshold_among(margin, chosen):
    """ln (1 + Σ over the chosen of e^margin)."""
    inside = margin.masked_fill(~chosen, -math.inf)
    return functional.pad(inside, (1, 0)).logsumexp(-1)


def atl(margin, labels):
    """Each positive against all positives and the threshold; the threshold against all negatives."""
    positive = (_threshold_among(margin, labels)[..., None] - margin).masked_fill(~labels, 0).sum(-1)
    return positive + _threshold_among(margin, ~labels)


def sat(margin, labels):
    """Each relation for itself: a binary cross-entropy against the threshold."""
    return torch.where(labels, softplus(-margin), softplus(margin)).sum(-1)


def mean_sat(margin, labels):
    """SAT with the mean over positives and the mean over negatives in place of sums."""
    return _mean(softplus(-margin), labels) + _mean(softplus(margin), ~labels)


def afl(margin, labels):
    """Positives weighted by 1 + σ(-margin), for themselves; negatives as in ATL."""
    positive = (1 + (-margin).sigmoid()) * softplus(-margin)
    return positive.masked_fill(~labels, 0).sum(-1) + _threshold_among(margin, ~labels)


def hinge_abl(margin, labels):
    """Weights relu(5 - margin) over positives, relu(5 + margin) over negatives, each normalised to sum 1."""
    far = torch.where(labels, HINGE - margin, HINGE + margin).relu()
    loss = torch.where(labels, softplus(-margin), softplus(margin))
    return sum(_mean(loss, side, far) for side in (labels, ~labels))


def aml(margin, labels):
    """A hinge with margin 1 on each side."""
    return torch.where(labels, 1 - margin, 1 + margin).relu().sum(-1)


def focal(margin, labels):
    """SAT, each term weighted by the squared probability of the wrong side."""
    wrong = torch.where(labels, -margin, margin)
    return (wrong.sigmoid() ** 2 * softplus(wrong)).sum(-1)


def concentrated(margin, labels, rarity=1.0):
    """Ours, after COMM's abstract: hard positives up, easy negatives down; the weights have no gradient.

    rarity: of each relation, ln of its share over the mean of these; 1 for all alike.
    """
    hard, loud = 1 + (-margin).sigmoid().detach(), margin.sigmoid().detach() ** 2
    return torch.where(labels, rarity * hard * softplus(rarity - margin), loud * softplus(margin)).sum(-1)


def _mean(values, chosen, weight=None):
    """The mean over the chosen, weighted; 0 where the weights sum to 0."""
    weight = chosen.to(values.dtype) if weight is None else weight * chosen
    return (weight * values).sum(-1) / weight.sum(-1).clamp(min=1e-12)


LOSSES = {
    "ATL": atl, "SAT": sat, "MeanSAT": mean_sat, "AFL": afl, "HingeABL": hinge_abl, "AML": aml, "focal": focal,
    "CMM (ours)": concentrated,
}  # fmt: skip


def drift(name: str, margin, missing, *, relations: int = 8, others: float = -math.inf) -> torch.Tensor:
    """The force on the margin of a relation that always holds and whose label is dropped with chance `missing`.

    Above 0 training raises it. The other relations never hold; they stand at the margin `others`, by default far below
    the threshold. margin, missing: of one shape, or numbers. Raises ValueError for a chance outside [0, 1].
    """
    margin = torch.as_tensor(margin, dtype=torch.float64).detach().clone().requires_grad_()
    missing = torch.as_tensor(missing, dtype=torch.float64)
    if not ((missing >= 0) & (missing <= 1)).all():
        raise ValueError(f"missing is a chance in [0, 1]; it is {missing.tolist()}.")
    rest = margin.new_full((*margin.shape, relations - 1), max(others, -40.0))
    row = torch.cat([margin[..., None], rest], -1)
    labelled = torch.zeros(row.shape, dtype=torch.bool)
    labelled[..., 0] = True
    loss = LOSSES[name]
    expected = (1 - missing) * loss(row, labelled) + missing * loss(row, torch.zeros_like(labelled))
    return -torch.autograd.grad(expected.sum(), margin)[0]


def breakdown(name: str, *, relations: int = 8, others: float = -math.inf) -> float:
    """The chance of a missing label at which the force at the threshold turns: beyond, a true relation is rejected.

    It depends on where the other margins stand. With eight relations and `others` at -inf AFL turns at .65, HingeABL at
    .50 (its weights ignore margins below -5). `crossing` lets all margins settle together: AFL .65 again, HingeABL .77.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        falls = drift(name, 0.0, middle, relations=relations, others=others).item() < 0
        low, high = (low, middle) if falls else (middle, high)
    return (low + high) / 2


def settled(name: str, missing, *, relations: int = 8, steps: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """(margin d*, margin of the others) where the expected loss of that row comes to rest, all margins together.

    One relation always holds and loses its label with chance `missing` [n]; the others, all alike, never hold. Adam
    from 0, at most LIMIT away from it. What is detached in a loss stays so: for that loss it is a point of rest, not an
    optimum.
    """
    missing = torch.as_tensor(missing, dtype=torch.float64)
    pair = torch.zeros(*missing.shape, 2, dtype=torch.float64, requires_grad=True)
    labelled = torch.zeros(*missing.shape, relations, dtype=torch.bool)
    labelled[..., 0] = True
    optimizer, loss = torch.optim.Adam([pair], lr=0.1), LOSSES[name]
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        row = torch.cat([pair[..., :1], pair[..., 1:].expand(*missing.shape, relations - 1)], -1)
        expected = (1 - missing) * loss(row, labelled) + missing * loss(row, torch.zeros_like(labelled))
        (pair.grad,) = torch.autograd.grad(expected.sum(), pair)
        optimizer.step()
        with torch.no_grad():
            pair.clamp_(-LIMIT, LIMIT)
    return tuple(pair.detach().unbind(-1))


def crossing(name: str, *, relations: int = 8, steps: int = 2000) -> float:
    """The chance of a missing label at which d* of `settled` falls through the threshold, to .005; it bisects."""
    low, high = 0.0, 1.0
    while high - low > 0.01:
        tried = low + (high - low) * torch.linspace(0, 1, 11, dtype=torch.float64)
        below = (settled(name, tried, relations=relations, steps=steps)[0] < 0).nonzero()
        first = int(below[0]) if len(below) else len(tried) - 1
        low, high = tried[max(first - 1, 0)].item(), tried[first].item()
    return (low + high) / 2
