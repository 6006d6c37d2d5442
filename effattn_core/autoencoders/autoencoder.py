"""Tokenisers with a target: the losses of `latents.Tokeniser`, and what a latent pays for pointing elsewhere."""

import torch
from torch.nn import functional

from effattn_core.autoencoders.sphere import semantic_loss, unit_rms
from effattn_core.latents.tokenisers import Tokeniser, kl_to_normal
from effattn_core.latents.training import fit

SPREAD = 0.2  # mean of the noise's spread, of the released configuration (C in the sheet of the paper)


def geometric(*, spread=SPREAD, **sizes):
    """The geometric autoencoder's tokeniser: latents of unit RMS, noise of a drawn spread, no KL."""
    return Tokeniser("rms", spread=spread, **sizes)


def losses_with_target(tokeniser, images, target=None, weight=1.0, generator=None):
    """(reconstruction, penalty, semantic), each a mean: squared error per pixel, the kind's own, 2 - 2 cos per token.

    target: [batch, tokens, latent], or None for no semantic loss. The direction is asked of the mean, not of what noise
    made of it; the decoder sees the noisy one. The penalty is that of `Tokeniser.losses`, weight is not in it.
    """
    posterior = tokeniser.encode(images)
    mean, latents = posterior.mean, tokeniser.sample(posterior, generator)
    reconstruction = functional.mse_loss(tokeniser.decode(latents), images)
    penalty = mean.new_zeros(())
    if tokeniser.kind == "vae":
        penalty = tokeniser.beta * kl_to_normal(mean, posterior.log_variance)
    elif tokeniser.kind in ("sigma", "fixed"):
        penalty = tokeniser.beta * mean.square().mean()
    return reconstruction, penalty, mean.new_zeros(()) if target is None else weight * semantic_loss(mean, target)


def train_autoencoder(tokeniser, images, targets=None, *, weight=1.0, steps=600, batch=128, rate=2e-3, seed=0):
    """Train it in place on images, and targets [images, tokens, latent] where there are any. Returns the losses.

    Raises ValueError for a negative weight, and for targets that are not one per image.
    """
    if targets is not None and len(targets) != len(images):
        raise ValueError(f"each image needs a target; there are {len(images)} images and {len(targets)} targets.")
    if weight < 0:
        raise ValueError(f"the weight of the semantic loss must be at least 0; it is {weight}.")

    def loss_of(places, generator):
        target = targets[places] if targets is not None and weight else None
        return sum(losses_with_target(tokeniser, images[places], target, weight, generator))

    return fit(tokeniser, loss_of, count=len(images), steps=steps, batch=batch, rate=rate, seed=seed)


@torch.no_grad()
def means_of(tokeniser, images):
    """The means of all images, [images, tokens, latent]: what a generator is trained on here, without noise (B4)."""
    return torch.cat([tokeniser.encode(each).mean for each in images.split(500)])


@torch.no_grad()
def agreement(mean, target):
    """The mean cosine of latents and targets."""
    return functional.cosine_similarity(unit_rms(mean), unit_rms(target), dim=-1).mean().item()
