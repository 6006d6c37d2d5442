"""Images to a few latents and back: four ways to keep the noise that a latent is decoded under from dying out.

"vae"    mean and spread of every number are learnt; KL to a unit normal, weighed by beta
"fixed"  one spread for all, the penalty on the mean alone
"sigma"  one spread per example, drawn anew each time, the penalty on the mean alone (σ-VAE, LatentLM)
"rms"    the mean is brought to unit RMS per latent, spread as in "sigma", no penalty (GAE)
"vq"     the nearest of a book of codes instead: a token that a softmax can predict
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.calls import require_count
from effattn_core.latents.schedule import normal
from effattn_core.latents.training import fit

KINDS = ("vae", "fixed", "sigma", "rms", "vq")
MEAN_OF_HALF_NORMAL = 0.8  # E|n| = sqrt(2 / π) = 0.798 of a normal n, rounded as the released code has it
EPSILON = 1e-6
LOG_VARIANCE = (-30.0, 20.0)  # what the log variance of a VAE is held in
COMMITMENT = 0.25  # weight of the encoder's pull towards its code


@dataclass(frozen=True)
class Posterior:
    """What the encoder says of images: mean [batch, tokens, latent]; log_variance of that shape, of a VAE alone."""

    mean: torch.Tensor
    log_variance: torch.Tensor | None = None


def sigma_sample(mean, spread, generator=None):
    """z = μ + σ_b ε, σ_b = n_b · spread / 0.8 with one normal n_b per example (eq. latents-sigma).

    mean: [batch, ...]. spread is the mean of ``|σ_b|``: z is a mixture of spreads, no normal law of one spread.
    """
    per_example = (len(mean),) + (1,) * (mean.ndim - 1)
    drawn, noise = normal(per_example, mean, generator), normal(mean.shape, mean, generator)
    return mean + spread / MEAN_OF_HALF_NORMAL * drawn * noise


def kl_to_normal(mean, log_variance):
    """KL(N(μ, s²) ‖ N(0, 1)) in nats, the mean over all numbers: ½ (μ² + s² - 1 - ln s²)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2


def unit_rms(mean):
    """Each latent over its root mean square, so that ``|z|²`` is its size."""
    return mean * torch.rsqrt(mean.square().mean(-1, keepdim=True) + EPSILON)


class Tokeniser(nn.Module):
    """Images [batch, 1, side, side] to latents [batch, tokens, latent], row by row, and back.

    kind: of KINDS. patch: pixels on a side that one latent stands for. spread: of "fixed", "sigma" and "rms". beta: the
    weight of the KL or of mean(μ²). codes: of "vq". Raises ValueError for another kind, a size of 0, a patch that does
    not divide the side, and a negative spread or beta.
    """

    def __init__(self, kind="sigma", *, side=28, patch=7, latent=8, width=64, spread=0.75, beta=1e-2, codes=128):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; it is {kind!r}.")
        for name, count in dict(side=side, patch=patch, latent=latent, width=width, codes=codes).items():
            require_count(name, count)
        if side % patch:
            raise ValueError(f"patch must divide the side of {side} pixels; it is {patch}.")
        if spread < 0 or beta < 0:
            raise ValueError(f"spread and beta must be at least 0; they are {spread} and {beta}.")
        self.kind, self.latent, self.spread, self.beta = kind, latent, spread, beta
        self.rows = side // patch
        said = 2 * latent if kind == "vae" else latent
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, patch, patch), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.Conv2d(width, said, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, width, 1), nn.GELU(), nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
            nn.ConvTranspose2d(width, 1, patch, patch),
        )  # fmt: skip
        if kind == "vq":
            self.book = nn.Parameter(torch.randn(codes, latent) / math.sqrt(latent))

    @property
    def tokens(self):
        """Latents per image."""
        return self.rows**2

    def encode(self, images):
        """The Posterior of images."""
        said = self.encoder(images).flatten(2).mT
        if self.kind == "vae":
            mean, log_variance = said.chunk(2, -1)
            return Posterior(mean, log_variance.clamp(*LOG_VARIANCE))
        return Posterior(unit_rms(said) if self.kind == "rms" else said)

    def sample(self, posterior, generator=None):
        """A latent as the decoder is trained on it, noise and all: [batch, tokens, latent]."""
        mean = posterior.mean
        if self.kind == "vq":
            return self.book[self.codes_of(mean)]
        if self.kind in ("sigma", "rms"):
            return sigma_sample(mean, self.spread, generator)
        noise = normal(mean.shape, mean, generator)
        return mean + (self.spread if self.kind == "fixed" else (posterior.log_variance / 2).exp()) * noise

    def decode(self, latents):
        """Images [batch, 1, side, side], about in [-1, 1]."""
        return self.decoder(latents.mT.unflatten(2, (self.rows, self.rows)))

    def codes_of(self, mean):
        """The number of each latent's nearest code: int64 [batch, tokens]."""
        return torch.cdist(mean.flatten(0, 1), self.book).argmin(1).view(mean.shape[:2])

    def losses(self, images, generator=None):
        """(mean squared error of the pixels, what is added to it)."""
        posterior = self.encode(images)
        mean, latents = posterior.mean, self.sample(posterior, generator)
        if self.kind == "vq":
            penalty = functional.mse_loss(latents, mean.detach()) + COMMITMENT * functional.mse_loss(
                mean, latents.detach()
            )
            latents = mean + (latents - mean).detach()  # the gradient passes straight through
        elif self.kind == "vae":
            penalty = self.beta * kl_to_normal(mean, posterior.log_variance)
        else:
            penalty = self.beta * mean.square().mean() if self.kind != "rms" else mean.new_zeros(())
        return functional.mse_loss(self.decode(latents), images), penalty


def train_tokeniser(tokeniser, images, *, steps=400, batch=128, rate=2e-3, seed=0):
    """Train it in place on images. Returns the losses, a float per step."""
    if tokeniser.kind == "vq":
        _start_book(tokeniser, images, seed)

    def loss_of(places, generator):
        return sum(tokeniser.losses(images[places], generator))

    return fit(tokeniser, loss_of, count=len(images), steps=steps, batch=batch, rate=rate, seed=seed)


@torch.no_grad()
def _start_book(tokeniser, images, seed):
    """Codes start on latents of the data: codes that nothing is near would never be used."""
    mean = tokeniser.encode(images[:512]).mean.flatten(0, 1)
    chosen = torch.randperm(len(mean), generator=torch.Generator().manual_seed(seed))[: len(tokeniser.book)]
    tokeniser.book.copy_(mean[chosen])


@dataclass(frozen=True)
class LatentScale:
    """Two numbers that bring noisy latents to mean 0 and deviation 1: (z + bias) · scale, and back (A3)."""

    scale: float
    bias: float

    @classmethod
    def of(cls, latents):
        """Of latents as they are sampled, noise and all."""
        return cls(1 / latents.std().item(), -latents.mean().item())

    def scaled(self, latents):
        return (latents + self.bias) * self.scale

    def restored(self, latents):
        return latents / self.scale - self.bias


@torch.no_grad()
def spread_ratio(tokeniser, images):
    """(deviation of the means over all numbers, mean spread of the noise over it): the number that collapses."""
    posterior = tokeniser.encode(images)
    spread = (posterior.log_variance / 2).exp().mean().item() if tokeniser.kind == "vae" else tokeniser.spread
    deviation = posterior.mean.std().item()
    return deviation, spread / deviation


@torch.no_grad()
def noisy_error(tokeniser, images, noise=0.0, seed=0):
    """Mean squared error per pixel if the means are decoded with normal noise, `noise` times their deviation."""
    mean = tokeniser.encode(images).mean
    drawn = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed)).to(mean)
    return functional.mse_loss(tokeniser.decode(mean + noise * mean.std() * drawn), images).item()
