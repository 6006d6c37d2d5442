"""Latent diffusion tokens (LatentLM): one causal model for words and for continuous latents, with a head that samples.

schedule     Schedule, cosine(), target_of / clean_of / noise_of (prediction "eps" or "v")
samplers     grid(schedule, steps, first=999), even_grid(steps, low, high); sample(denoise, start, grid, sampler=…);
             ddim_step, ddpm_step, dpmpp_2m_step; guided(conditional, unconditional, weight)
exact        Gaussian(mean, spread), Mixture(weights, means, spreads): .denoise(x, alpha, sigma), the exact flow, W1
head         head_oracle, head_step (one block: the kernel's reference), DiffusionHead
tokenisers   Tokeniser(kind, …) with kinds "vae", "sigma", "fixed", "rms"; train_tokeniser; LatentScale
model        LatentSizes, Stream, LatentModel (loss with several draws per token, step-wise decoding), draw
quality      Classifier, frechet_distance, label_accuracy
digits       data_of_digits(), small_digits()
"""

from effattn_core.latents.head import DiffusionHead, head_oracle, head_step
from effattn_core.latents.schedule import PREDICTIONS, Schedule, clean_of, cosine, noise_of, target_of

__all__ = [
    "DiffusionHead",
    "PREDICTIONS",
    "Schedule",
    "clean_of",
    "cosine",
    "head_oracle",
    "head_step",
    "noise_of",
    "target_of",
]
