"""Latents that can be drawn: one per digit, of two numbers, under each objective in turn.

With unit RMS two numbers lie on a circle of radius √2: a latent is then an angle alone.
"""

import torch

from effattn_core.autoencoders.autoencoder import SPREAD, means_of, train_autoencoder
from effattn_core.autoencoders.teacher import features_of, targets_of, train_downsampler
from effattn_core.latents.tokenisers import Tokeniser

OBJECTIVES = {  # name -> (settings of a Tokeniser, weight of the semantic loss)
    "KL, β 1e-6": (dict(kind="vae", beta=1e-6), 0.0),
    "KL, β 1e-2": (dict(kind="vae", beta=1e-2), 0.0),
    "σ-VAE": (dict(kind="sigma", beta=1e-2, spread=SPREAD), 0.0),
    "unit RMS": (dict(kind="rms", spread=SPREAD), 0.0),
    "unit RMS, target × 0.1": (dict(kind="rms", spread=SPREAD), 0.1),
    "unit RMS, target × 1": (dict(kind="rms", spread=SPREAD), 1.0),
}
ANGLES = 8


def plane_targets(teacher, images, *, steps=400, seed=0):
    """A direction in the plane for each image, [images, 1, 2], from the teacher's features of the whole image."""
    features = features_of(teacher, images, pooled=True)
    down, _ = train_downsampler(features, latent=2, window=1, steps=steps, seed=seed)
    return targets_of(down, features)


def plane_tokeniser(objective, digits, targets=None, *, steps=400, seed=0):
    """A Tokeniser of one latent of two numbers per image of Digits, trained under an objective of OBJECTIVES.

    Raises ValueError for another.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {tuple(OBJECTIVES)}; it is {objective!r}.")
    settings, weight = OBJECTIVES[objective]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokeniser = Tokeniser(side=digits.side, patch=digits.side, latent=2, **settings)
    train_autoencoder(tokeniser, digits.images, targets, weight=weight, steps=steps, seed=seed)
    return tokeniser


def points(tokeniser, images):
    """Where images lie: [images, 2]."""
    return means_of(tokeniser, images)[:, 0]


@torch.no_grad()
def around(tokeniser, images, count=ANGLES):
    """(angles [count] in radians, what is decoded there [count, 1, side, side]), at the latents' RMS length."""
    radius = points(tokeniser, images).square().sum(1).mean().sqrt()
    angles = torch.arange(count) * (2 * torch.pi / count)
    return angles, tokeniser.decode(radius * torch.stack((angles.cos(), angles.sin()), 1)[:, None])
