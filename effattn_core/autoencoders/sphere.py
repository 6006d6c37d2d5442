"""Latents of one length: each token's latent over its root mean square, and a loss that asks for a direction alone.

The paper calls the surface a unit hypersphere; the released code brings the root mean square to 1, so the radius is
the square root of the latent's size.
"""

import torch

from effattn_core.latents.tokenisers import EPSILON, unit_rms

__all__ = ["directional", "semantic_loss", "unit_rms", "unit_rms_backward", "unit_rms_oracle"]


def unit_rms_oracle(mean):
    """z = m / sqrt(mean_c m_c² + 1e-6), per token (eq. autoencoders-rms), the definition: ``|z|²`` is its size.

    mean: [..., latent]. Returns that shape. Nothing is taken over tokens or images.
    """
    return mean / (mean.square().mean(-1, keepdim=True) + EPSILON).sqrt()


def unit_rms_backward(mean, gradient):
    """dL/dm = (g - z mean_c(g z)) / rms(m), of g = dL/dz (eq. autoencoders-rms-gradient).

    mean, gradient: [..., latent]. What points along z is lost, so a step on m never shortens it, and an encoder ten
    times as large gets a tenth of the gradient. Raises ValueError for shapes that differ.
    """
    if mean.shape != gradient.shape:
        raise ValueError(
            f"output and gradient need one shape; they have {tuple(mean.shape)} and {tuple(gradient.shape)}."
        )
    root = torch.rsqrt(mean.square().mean(-1, keepdim=True) + EPSILON)
    latent = mean * root
    return root * (gradient - latent * (gradient * latent).mean(-1, keepdim=True))


def directional(mean, target):
    """2 - 2 cos of the angle between latents, per token (eq. autoencoders-cosine): [..., latent] to [...].

    It is the mean squared difference of the two once both have unit RMS. Raises ValueError for shapes that differ.
    """
    if mean.shape != target.shape:
        raise ValueError(
            f"latents and targets need one shape; they have {tuple(mean.shape)} and {tuple(target.shape)}."
        )
    return (unit_rms(mean) - unit_rms(target)).square().mean(-1)


def semantic_loss(mean, target):
    """The mean of `directional` over all tokens: what the encoder pays for latents that point elsewhere (B2)."""
    return directional(mean, target).mean()
