"""Latent diffusion tokens (LatentLM): one causal model for words and for continuous latents, with a head that samples.

schedule, samplers, exact   noise and how it is taken off, beside data whose answer is known in closed form
head                        the network that takes it off one latent; `head_step` is the block that kernels fuse
tokenisers, quality         images to latents and back, and how good images are, on the digits of `digits`
model, decoding             words and latents in one stream, trained and drawn; `captions` and `codes` beside it
recorded                    the model that the book's run has trained
"""

from effattn_core.latents.decoding import draw, write
from effattn_core.latents.head import DiffusionHead, head_oracle, head_step
from effattn_core.latents.model import LatentModel, LatentSizes, Stream, latent_sizes, stream, train_latent_model
from effattn_core.latents.samplers import (
    CLIPPED,
    LAST,
    SAMPLERS,
    ddim_step,
    ddpm_step,
    dpmpp_2m_step,
    even_grid,
    grid,
    guided,
    sample,
)
from effattn_core.latents.schedule import PREDICTIONS, Schedule, clean_of, cosine, noise_of, target_of
from effattn_core.latents.tokenisers import KINDS, LatentScale, Tokeniser, sigma_sample, train_tokeniser, unit_rms

__all__ = [
    "CLIPPED",
    "DiffusionHead",
    "KINDS",
    "LAST",
    "LatentModel",
    "LatentScale",
    "LatentSizes",
    "PREDICTIONS",
    "SAMPLERS",
    "Schedule",
    "Stream",
    "Tokeniser",
    "clean_of",
    "cosine",
    "ddim_step",
    "ddpm_step",
    "dpmpp_2m_step",
    "draw",
    "even_grid",
    "grid",
    "guided",
    "head_oracle",
    "head_step",
    "latent_sizes",
    "noise_of",
    "sample",
    "sigma_sample",
    "stream",
    "target_of",
    "train_latent_model",
    "train_tokeniser",
    "unit_rms",
    "write",
]
