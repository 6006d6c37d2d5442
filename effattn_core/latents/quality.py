"""How good digits are, as a small classifier sees them: which share it reads as meant, and a Fréchet distance.

The distance is between features of this classifier. It is not FID, whose features are Inception's: its numbers compare
with each other alone, and only for one classifier.
"""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.latents.training import fit

FEATURES = 64


class Classifier(nn.Module):
    """Images [batch, 1, side, side] to logits [batch, 10]; `features` are the 64 numbers before the last matrix."""

    def __init__(self, side=28):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten(),
            nn.Linear(32 * (-(-side // 4)) ** 2, FEATURES), nn.GELU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, 10)

    def features(self, images):
        return self.body(images)

    def forward(self, images):
        return self.head(self.body(images))


def train_classifier(digits, *, steps=400, batch=128, seed=0):
    """A Classifier trained on Digits. Draws of its own: `seed` gives weights and batches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(digits.side)

    def loss_of(places, generator):
        return functional.cross_entropy(model(digits.images[places]), digits.labels[places])

    fit(model, loss_of, count=len(digits.labels), steps=steps, batch=batch, seed=seed)
    return model


@torch.no_grad()
def label_accuracy(classifier, images, labels):
    """The share of images that the classifier reads as `labels`."""
    return (classifier(images.clamp(-1, 1)).argmax(1) == labels).double().mean().item()


@torch.no_grad()
def frechet_distance(classifier, images, others):
    """Fréchet distance of two sets of images in the classifier's features (eq. latents-frechet), in float64.

    ``|m - n|²`` + tr(C + D - 2 (C^½ D C^½)^½), m, n the means and C, D the covariances. Raises ValueError for too few
    images, no more than features: their covariance says nothing.
    """
    means, covariances = [], []
    for each in (images, others):
        if len(each) <= FEATURES:
            raise ValueError(f"a covariance of {FEATURES} features needs more images than that; it got {len(each)}.")
        features = classifier.features(each.clamp(-1, 1)).double()
        means.append(features.mean(0))
        covariances.append(features.mT.cov())
    first, second = covariances
    root = _root(first)
    cross = _root(root @ second @ root).diagonal().sum()
    gap = (means[0] - means[1]).square().sum()
    return (gap + first.diagonal().sum() + second.diagonal().sum() - 2 * cross).item()


def _root(matrix):
    """The square root of a positive matrix; eigenvalues below zero, which rounding makes, count as zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.mT


def diagonal_distance(found, wanted):
    """The same of latents [count, latent] as they are, their numbers taken as independent of each other.

    Raises ValueError for fewer than two latents, which have no deviation.
    """
    if min(len(found), len(wanted)) < 2:
        raise ValueError(f"a deviation needs two latents; got {len(found)} and {len(wanted)}.")
    mean = (found.mean(0) - wanted.mean(0)).square().sum()
    return (mean + (found.std(0) - wanted.std(0)).square().sum()).item()
