"""Slices of time (DRL-SRe): a symmetric graph convolution per slice through log-sum-exp, and gaps that may never end.

The graph step D^-1/2 A D^-1/2 X is no average, so attention with zero scores gives it only together with its
log-sum-exp, ln degree. The point process is that of the paper; the density is written so that nothing cancels.
"""

import math
from dataclasses import dataclass

import torch

from effattn_core.coattention.votes import gathered
from effattn_core.plays import plays

SLICES = 12  # of a play, equal numbers of speeches
UNIT = 10  # speeches, in which gaps between a speaker's speeches are counted


def oracle(weights, table):
    """D^-1/2 A D^-1/2 X, as written (eq. coattention-symmetric): float64 [nodes, nodes] symmetric, [nodes, dim].

    No loops are added. A node without edges gets 0.
    """
    degree = weights.sum(1)
    root = torch.where(degree > 0, degree.clamp(min=1e-300) ** -0.5, 0.0)
    return root[:, None] * weights @ (root[:, None] * table)


def propagated(weights, table):
    """The same by attention: scores zero, bias ln A, value D^-1/2 X, and exp(log_sum_exp / 2) times the output."""
    degree = weights.sum(1)
    root = torch.where(degree > 0, degree.clamp(min=1e-300) ** -0.5, 0.0)
    output, log_sum_exp = gathered(root[:, None] * table, bias=weights.log())
    return (log_sum_exp / 2).exp()[:, None] * output


def log_density(gap, log_rate, slope):
    """ln f of the next gap, where the rate is exp(log_rate + slope · gap): stable at slope 0 (eq. coattention-tpp).

    gap: τ ≥ 0; log_rate: ρ; slope: ω; tensors that broadcast, floating.   ln f = ρ + ωτ - e^ρ (e^ωτ - 1) / ω.
    """
    product = slope * gap
    # (e^x - 1) / x by expm1, and its series where x is nearly 0: two derivatives are then right.
    near = product.abs() < 1e-5
    safe = torch.where(near, torch.ones_like(product), product)
    ratio = torch.where(near, 1 + product / 2 + product**2 / 6, torch.expm1(safe) / safe)
    return log_rate + product - log_rate.exp() * gap * ratio


def released_log_density(gap, log_rate, slope):
    """As the released code computes it, ln(f + 1e-8) with a division by the slope: it cancels as slope nears 0."""
    rate, later = log_rate.exp(), (log_rate + slope * gap).exp()
    return torch.log(torch.exp(log_rate + slope * gap + (1 / slope) * (rate - later)) + 1e-8)


def mass(log_rate, slope):
    """The chance that the gap ends at all: 1 for slope ≥ 0, else 1 - exp(e^ρ / ω). Two numbers."""
    return 1.0 if slope >= 0 else -math.expm1(math.exp(log_rate) / slope)


def fitted(gaps, steps=40):
    """(log_rate, slope) of greatest likelihood per row, by Newton's method with halved steps where one goes astray.

    gaps: float64 [rows, gaps], nan where a row is shorter.   Returns two tensors [rows].
    """
    there = ~gaps.isnan()
    told = gaps.nan_to_num(0.0)
    found = torch.stack([-(told.sum(1) / there.sum(1)).log(), torch.zeros(len(gaps), dtype=gaps.dtype)], 1)

    def loss(at):
        return -(log_density(told, at[:, :1], at[:, 1:]) * there).sum(1)

    for _ in range(steps):
        at = found.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(at).sum(), at, create_graph=True)[0]
        rows = [torch.autograd.grad(gradient[:, each].sum(), at, retain_graph=True)[0] for each in (0, 1)]
        curve = torch.stack(rows, 1) + 1e-9 * torch.eye(2, dtype=gaps.dtype)
        step, size = torch.linalg.solve(curve, gradient.detach()[..., None])[..., 0], torch.ones(len(gaps), 1)
        for _ in range(20):
            worse = ~(loss(found - size * step) <= loss(found) + 1e-12)
            size = torch.where(worse[:, None], size / 2, size)
        found = found - torch.where(worse[:, None], 0.0, size) * step
    return found.unbind(1)


@dataclass(frozen=True)
class Sliced:
    """Who answers whom: counts float64 [slices, speakers, speakers], row answers column; speakers by name."""

    title: str
    speakers: tuple
    counts: torch.Tensor


def sliced(play, slices=SLICES):
    """A play as Sliced: an answer lies in the slice of who gives it."""
    speakers = tuple(play.speakers)
    place = {name: number for number, name in enumerate(speakers)}
    counts = torch.zeros(slices, len(speakers), len(speakers), dtype=torch.float64)
    for one, other in play.answers():
        counts[other.place * slices // len(play.speeches), place[other.speaker], place[one.speaker]] += 1
    return Sliced(play.title, speakers, counts)


def walks(counts, hops):
    """Σ of the odd powers up to `hops` of the normalised bipartite graph, rows to columns: [..., rows, columns].

    Even powers lead from rows back to rows: without loops a bipartite graph tells apart who asks and who is asked.
    """
    rows, columns = counts.sum(-1, keepdim=True), counts.sum(-2, keepdim=True)
    step = counts / (rows * columns).sqrt().clamp(min=1e-30)
    total = power = step
    for _ in range(hops // 2):
        power = step @ step.mT @ power
        total = total + power
    return total


def ranks(found, decay, hops):
    """Reciprocal ranks of whom a speaker answers in the next slice, for speakers who answered before: a list.

    decay: κ > 0 in slices, the weight of a slice s before the next is exp(-(T-1-s)/κ); inf for equal weights;
    0 for the last slice only; "global" for one graph of all that was. Equals share the mean of their ranks.
    """
    told = []
    each = walks(found.counts, hops)
    for now in range(1, len(found.counts)):
        if decay == "global":
            scores = walks(found.counts[:now].sum(0), hops)
        else:
            age = torch.arange(now - 1, -1, -1, dtype=torch.float64)
            weight = (age == 0).double() if decay == 0 else torch.exp(-age / decay)
            scores = (weight[:, None, None] * each[:now]).sum(0)
        known = found.counts[:now].sum((0, 2)) > 0
        for one, other in (found.counts[now] * known[:, None]).nonzero().tolist():
            rivals = torch.cat([scores[one, :one], scores[one, one + 1 :]])
            above = (rivals > scores[one, other] + 1e-12).sum()
            equal = (rivals > scores[one, other] - 1e-12).sum() - above
            told.append(1 / (above.item() + (equal.item() + 1) / 2))
    return told


def gaps(play, least=2):
    """name -> the gaps between one speech of a speaker and the next in the play, in UNITs, of those with `least`."""
    places = {}
    for speech in play.speeches:
        places.setdefault(speech.speaker, []).append(speech.place)
    return {
        name: [(later - one) / UNIT for one, later in zip(at, at[1:], strict=False)]
        for name, at in places.items()
        if len(at) >= least
    }


def all_gaps(count=38, least=2):
    """The gaps of the speakers of the first `count` plays, a list per speaker."""
    return [told for play in plays()[:count] for told in gaps(play, least).values()]
