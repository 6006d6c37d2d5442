"""Subjects without a brain: a digit seen by some voxels of a sheet, and a mask of voxels learned from few trials.

Each voxel inside a tilted ellipse sees a random mixture of a digit's pixels (scikit-learn's digits, BSD); every voxel
has white noise, and noise that is smooth over the sheet. The ellipse is a blob by our construction, and that is what a
low-pass filter assumes. Both stages of training are a RECONSTRUCTION after the abstract of TROI (arXiv 2502.00412).
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.discrete.masks import chosen, folded, low_pass, oracle, overlap, rate

SIDE, CLASSES, COMPONENTS, WIDTH = 32, 10, 20, 32  # of a sheet; of the targets; of the backbone's input
TRIALS, TEST, GALLERY = 600, 600, 100  # images a new subject may see; held out; that retrieval chooses from
GENEROUS = 1.2  # voxels kept over voxels of the true region: an oracle's size, told to the method
STEPS, TUNING, PENALTY = 150, 200, 2e-3
HOT, COOL, COLD = 1e-2, 1e-3, 1e-4  # learning rates: stage one goes from HOT to COOL, stage two ends at COLD


@functools.cache
def images():
    """(pixels float32 [1797, 64] of mean 0 and variance 1, digits, principal components [1797, 20] of variance 1)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.tensor(found.data, dtype=torch.float32)
    pixels = (pixels - pixels.mean(0)) / (pixels.std(0) + 1e-6)
    basis = torch.linalg.svd(pixels, full_matrices=False).Vh[:COMPONENTS]
    parts = pixels @ basis.T
    return pixels, torch.tensor(found.target).long(), parts / parts.std(0)


def ellipse(middle, turn, grown=0.0):
    """A tilted ellipse of about an eighth of the sheet, bool [SIDE, SIDE]; grown: voxels more on each side."""
    place = torch.arange(SIDE, dtype=torch.float32)
    down, across = place[:, None] - middle[0], place[None] - middle[1]
    along, aside = down * turn.cos() + across * turn.sin(), across * turn.cos() - down * turn.sin()
    return (along / (9 + grown)) ** 2 + (aside / (4.6 + grown)) ** 2 < 1


@dataclass(frozen=True)
class Subject:
    """voxels: [rows, SIDE * SIDE] of the images `rows`; region: where digits are seen; annotated: a hand's idea of it,
    larger and two voxels off; both bool [SIDE, SIDE]."""

    voxels: torch.Tensor
    rows: torch.Tensor
    region: torch.Tensor
    annotated: torch.Tensor

    def first(self, trials):
        """The subject with its first trials only."""
        return Subject(self.voxels[:trials], self.rows[:trials], self.region, self.annotated)


def subject(rows, generator) -> Subject:
    """One that has seen the images `rows`, int64: its own ellipse, mixtures and noise."""
    middle = 12 + 8 * torch.rand(2, generator=generator)
    turn, off = (math.pi * torch.rand(1, generator=generator) * scale for scale in (1, 2))
    where, shift = ellipse(middle, turn), 2 * torch.cat([off.cos(), off.sin()])
    sees = torch.randn(64, SIDE * SIDE, generator=generator) / 8 * where.flatten()
    rough, smooth = (torch.randn(len(rows), SIDE, SIDE, generator=generator) for _ in range(2))
    smooth = torch.stack([low_pass(each, 2.0) for each in smooth])
    voxels = images()[0][rows] @ sees + (rough + smooth / smooth.std()).flatten(1)
    return Subject(voxels, rows, where, ellipse(middle + shift, turn, grown=1.5))


def error(said, rows):
    """Cross-entropy of the digit, and the mean squared error of its principal components."""
    _, digits, parts = images()
    return functional.cross_entropy(said[:, :CLASSES], digits[rows]) + (said[:, CLASSES:] - parts[rows]).square().mean()


def pretrained(seed: int):
    """(a backbone from WIDTH numbers to digit and components, a new subject to train on, its held-out trials).

    Three subjects with annotated regions train the backbone, each through an input layer of its own, on images that the
    new subject never sees. The backbone's weights are frozen.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    order = torch.randperm(len(images()[1]), generator=generator)
    mine, held, others = order[:TRIALS], order[TRIALS : TRIALS + TEST], order[TRIALS + TEST :]
    teachers = [subject(others, generator) for _ in range(3)]
    flat = [each.annotated.flatten() for each in teachers]
    layers = [nn.Linear(int(each.sum()), WIDTH) for each in flat]
    backbone = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, CLASSES + COMPONENTS))
    numbers = [*backbone.parameters(), *(each for layer in layers for each in layer.parameters())]

    def loss():
        return sum(
            error(backbone(layer(each.voxels[:, voxels])), each.rows)
            for layer, each, voxels in zip(layers, teachers, flat, strict=True)
        )

    _descend(numbers, loss, 200, HOT, COLD)
    new = subject(torch.cat([mine, held]), generator)
    kept = Subject(new.voxels[TRIALS:], held, new.region, new.annotated)
    return backbone.requires_grad_(False), new.first(TRIALS), kept


def learned(backbone, trials: Subject, seed=0, *, steps=STEPS, penalty=PENALTY):
    """(mask [SIDE, SIDE], weight [SIDE, SIDE, WIDTH], bias) of stage one: a mask from ones, a penalty on Σ|m|."""
    mask = torch.ones(SIDE * SIDE, requires_grad=True)
    weight, bias = _fresh(SIDE * SIDE, seed)

    def loss():
        return error(backbone(oracle(trials.voxels, mask, weight, bias)), trials.rows) + penalty * mask.abs().sum()

    _descend([mask, weight, bias], loss, steps, HOT, COOL)
    return mask.detach().view(SIDE, SIDE), weight.detach().view(SIDE, SIDE, WIDTH), bias.detach()


def tuned(backbone, trials: Subject, kept, weight, bias, *, steps=TUNING, start=HOT, stop=COLD):
    """(weight, bias) of stage two on the voxels kept. start HOT: the rate is rewound; COOL: it goes on where it was."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    seen = trials.voxels[:, kept.flatten()]
    _descend([weight, bias], lambda: error(backbone(seen @ weight + bias), trials.rows), steps, start, stop)
    return weight.detach(), bias.detach()


def _fresh(count, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(count, WIDTH, generator=generator) / count**0.5
    return weight.requires_grad_(), torch.zeros(WIDTH, requires_grad=True)


def _descend(numbers, loss, steps, start, stop):
    optimizer = torch.optim.AdamW(numbers, lr=start, weight_decay=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate(step, steps, start, stop)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def judged(backbone, held: Subject, kept, weight, bias):
    """{accuracy of the digit, retrieval: how often the image seen is the nearest of GALLERY by its components}."""
    _, digits, parts = images()
    said = backbone(held.voxels[:, kept.flatten()] @ weight + bias)
    right = (said[:, :CLASSES].argmax(1) == digits[held.rows]).double().mean().item()
    found = []
    for rows in torch.arange(len(held.rows)).split(GALLERY):
        one, other = (functional.normalize(each[rows], dim=1) for each in (said[:, CLASSES:], parts[held.rows]))
        found.append((one @ other.T).argmax(1) == torch.arange(len(rows)))
    return {"accuracy": right, "retrieval": torch.cat(found).double().mean().item()}


def arms(backbone, trials: Subject, held: Subject, seed=0, *, sigmas=(0.0, 1.0, 2.0), steps=STEPS, tuning=TUNING):
    """Rows of dicts: every way to choose voxels, and how it fares; then (mask, weight) of stage one, for figures.

    Each has two stages. A fixed choice of voxels trains its weights alone in stage one, by the same rates and steps.
    """
    mask, weight, bias = learned(backbone, trials, seed, steps=steps)
    count, rows = round(GENEROUS * int(trials.region.sum())), []
    dice = torch.rand(SIDE * SIDE, generator=torch.Generator().manual_seed(seed)).view(SIDE, SIDE)
    fixed = {
        "all voxels": torch.ones_like(trials.region), "random": dice >= dice.flatten().sort().values[-count],
        "annotated": trials.annotated, "true region": trials.region,
    }  # fmt: skip
    ways = {}
    for name, kept in fixed.items():
        fresh = [each.detach() for each in _fresh(int(kept.sum()), seed)]
        ways[name] = kept, tuned(backbone, trials, kept, *fresh, steps=steps, stop=COOL)
    for sigma in sigmas:
        kept = chosen(mask, weight, count, sigma)
        ways[f"learned, sigma {sigma:g}"] = kept, (folded(mask, weight, kept), bias)
    for name, (kept, first) in ways.items():
        runs = {"rewound": (first, HOT), "low rate": (first, COOL)}
        if name == f"learned, sigma {sigmas[-1]:g}":
            runs["initialised again"] = [each.detach() for each in _fresh(int(kept.sum()), seed)], HOT
        for arm, (given, start) in runs.items():
            last = tuned(backbone, trials, kept, *given, steps=tuning, start=start)
            row = {"voxels": name, "rate": arm, "overlap": overlap(kept, trials.region)}
            rows.append(row | judged(backbone, held, kept, *last))
    return rows, mask, weight


def area(score, region):
    """The chance that a voxel of the region scores above one outside: the area under the ROC curve."""
    inside, outside = score[region], score[~region]
    return ((inside[:, None] > outside).double() + 0.5 * (inside[:, None] == outside)).mean().item()
