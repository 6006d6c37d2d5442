"""Data whose every noisy distribution is known: what samplers and trained heads are held against, in float64."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mixture:
    """A mixture of normal laws in one dimension, as tuples of equal length: Σ weight · N(mean, spread²)."""

    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-2.0, 1.0)
    spreads: tuple[float, ...] = (0.3, 0.5)

    def __post_init__(self):
        if not len(self.weights) == len(self.means) == len(self.spreads) or abs(sum(self.weights) - 1) > 1e-9:
            raise ValueError(f"a mixture needs as many weights, summing to 1, as means and spreads; got {self}.")

    def _parts(self, like):
        return (torch.tensor(each, dtype=like.dtype) for each in (self.weights, self.means, self.spreads))

    def _noisy(self, noisy, alpha, sigma):
        """Of each part, last dimension: (x - α mean, variance α² spread² + σ², probability given x)."""
        weights, means, spreads = self._parts(noisy)
        off, variance = noisy[..., None] - alpha * means, alpha**2 * spreads**2 + sigma**2
        share = torch.softmax(weights.log() - variance.log() / 2 - off**2 / (2 * variance), -1)
        return off, variance, share

    def denoise(self, noisy, time, alpha, sigma):
        """D, the mean of x given x_t: Σ p_k (m_k + α q_k² / v_k (x_t - α m_k)) (eq. latents-mixture). Any shape."""
        _, means, spreads = self._parts(noisy)
        off, variance, share = self._noisy(noisy, alpha, sigma)
        return (share * (means + alpha * spreads**2 / variance * off)).sum(-1)

    def score(self, noisy, alpha, sigma):
        """∇ log p_t(x_t) = -Σ p_k (x_t - α m_k) / v_k, which is minus the mean of ε given x_t, over σ."""
        off, variance, share = self._noisy(noisy, alpha, sigma)
        return -(share * off / variance).sum(-1)

    def density(self, noisy, alpha=1.0, sigma=0.0):
        """p_t(x_t)."""
        weights, _, _ = self._parts(noisy)
        off, variance, _ = self._noisy(noisy, alpha, sigma)
        return (weights * torch.exp(-(off**2) / (2 * variance)) / (2 * math.pi * variance).sqrt()).sum(-1)

    def cumulative(self, noisy, alpha=1.0, sigma=0.0):
        """P(X_t <= x_t)."""
        weights, _, _ = self._parts(noisy)
        off, variance, _ = self._noisy(noisy, alpha, sigma)
        return (weights * torch.special.ndtr(off / variance.sqrt())).sum(-1)

    def quantile(self, share):
        """x with P(X <= x) = share, by bisection to the last bit of float64 that matters."""
        reach = 12 * max(self.spreads)
        low = torch.full_like(share, min(self.means) - reach)
        high = torch.full_like(share, max(self.means) + reach)
        for _ in range(80):
            middle = (low + high) / 2
            below = self.cumulative(middle) < share
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def flow(self, noisy, alpha, sigma):
        """Where the probability flow takes x_t: in one dimension it keeps the order, so quantiles go to quantiles."""
        return self.quantile(self.cumulative(noisy, alpha, sigma))

    def sample(self, count, generator=None):
        """float64 [count]."""
        weights, means, spreads = self._parts(torch.empty(0, dtype=torch.float64))
        part = torch.multinomial(weights, count, replacement=True, generator=generator)
        return means[part] + spreads[part] * torch.randn(count, dtype=torch.float64, generator=generator)


@dataclass(frozen=True)
class Gaussian:
    """N(mean, spread²) for each number alike: the exact denoiser and the exact flow."""

    mean: float = 0.7
    spread: float = 0.3

    def denoise(self, noisy, time, alpha, sigma):
        """D = m + α q² / (α² q² + σ²) (x_t - α m) (eq. latents-gaussian)."""
        variance = (alpha * self.spread) ** 2 + sigma**2
        return self.mean + alpha * self.spread**2 / variance * (noisy - alpha * self.mean)

    def flow(self, noisy, now, after=(1.0, 0.0)):
        """x_t at (α, σ) carried along the probability flow: z = (x_t - α m) / sqrt(α² q² + σ²) stays."""
        (alpha, sigma), (next_alpha, next_sigma) = now, after
        held = (noisy - alpha * self.mean) / math.hypot(alpha * self.spread, sigma)
        return next_alpha * self.mean + held * math.hypot(next_alpha * self.spread, next_sigma)


def normal_quantiles(count):
    """`count` standard normal numbers in order, each standing for an equal share: sampling without its noise."""
    return torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def distance(found, wanted):
    """Wasserstein-1 distance of two samples of one size: the mean gap of the sorted numbers."""
    return (found.flatten().sort().values - wanted.flatten().sort().values).abs().mean().item()


def regressed(data, prediction_target, alpha, sigma, *, draws=1, centres=60, generator=None):
    """The loss's optimum at one time, without a network: least squares on bumps. Returns a function of noisy numbers.

    data: [count], clean. prediction_target: (latent, noise) -> what is regressed, ε or v. draws: noises per number.
    """
    data = data.repeat(draws)
    noise = torch.randn(data.shape, dtype=data.dtype, generator=generator)
    noisy = alpha * data + sigma * noise
    edges = torch.linspace(noisy.min().item(), noisy.max().item(), centres, dtype=data.dtype)
    width = 1.5 * (edges[1] - edges[0])

    def bumps(x):
        shape = torch.exp(-(((x[..., None] - edges) / width) ** 2))
        return torch.cat((shape, torch.ones_like(x)[..., None], x[..., None]), -1)

    weights = _least_squares(bumps(noisy), prediction_target(data, noise))
    return lambda x: bumps(x) @ weights


def _least_squares(features, target):
    """Ridge so small that it only keeps bumps without data from running away."""
    gram = features.mT @ features
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, features.mT @ target)
