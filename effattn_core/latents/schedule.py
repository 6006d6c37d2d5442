"""The noise schedule of next-token diffusion, and how a clean latent, its noise and a network's output turn into each
other. A noisy latent is x_t = α x + σ ε, with α² + σ² = 1 and λ = ln(α / σ)."""

import math
from dataclasses import dataclass

import torch

from effattn_core.calls import require_count

PREDICTIONS = ("eps", "v")
STEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """α and σ of each time, both float64 [steps], from little noise (0) to hardly any signal (steps - 1)."""

    alpha: torch.Tensor
    sigma: torch.Tensor

    def __len__(self):
        return len(self.alpha)

    @property
    def log_snr(self):
        """λ = ln(α / σ), [steps], falling."""
        return torch.log(self.alpha / self.sigma)

    def at(self, time, like):
        """(α, σ) of times, int64 [...], in the dtype and on the device of `like`: [..., 1], beside latents."""
        place = dict(dtype=like.dtype, device=like.device)
        index = time.to(self.alpha.device)
        return self.alpha[index][..., None].to(**place), self.sigma[index][..., None].to(**place)


def cosine(steps=STEPS):
    """The cosine schedule (Nichol and Dhariwal 2021), as LatentLM's released code has it (eq. latents-cosine).

    ᾱ(u) = cos²((u + 0.008) / 1.008 · π / 2); β_i = min(1 - ᾱ((i + 1) / T) / ᾱ(i / T), 0.999); α_i² = Π (1 - β).
    Raises ValueError for fewer than two steps.
    """
    require_count("steps", steps, least=2)
    curve = [math.cos((each / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for each in range(steps + 1)]
    kept = [1 - min(1 - after / before, 0.999) for before, after in zip(curve, curve[1:], strict=False)]
    squared = torch.tensor(kept, dtype=torch.float64).cumprod(0)
    return Schedule(squared.sqrt(), (1 - squared).sqrt())


def normal(shape, like, generator=None):
    """Standard normal numbers of a shape, in the dtype and on the device of `like`, drawn where the generator lives.

    So a generator of the CPU gives the same numbers to a model on a GPU.
    """
    place = like.device if generator is None else generator.device
    return torch.randn(shape, dtype=like.dtype, device=place, generator=generator).to(like.device)


def random_times(schedule, shape, like, generator=None):
    """Times of a schedule, int64, each as likely, on the device of `like`; drawn as `normal` draws."""
    place = like.device if generator is None else generator.device
    return torch.randint(len(schedule), shape, device=place, generator=generator).to(like.device)


def require_prediction(prediction):
    """Raise ValueError for a name that is not in PREDICTIONS."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction must be one of {PREDICTIONS}; it is {prediction!r}.")


def target_of(prediction, latent, noise, alpha, sigma):
    """What a network is trained to say: ε, or v = α ε - σ x. Shapes broadcast; Returns that of `latent`."""
    require_prediction(prediction)
    return noise if prediction == "eps" else alpha * noise - sigma * latent


def clean_of(prediction, output, noisy, alpha, sigma):
    """The clean latent x that an output means: (x_t - σ ε) / α, or α x_t - σ v."""
    require_prediction(prediction)
    return (noisy - sigma * output) / alpha if prediction == "eps" else alpha * noisy - sigma * output


def noise_of(prediction, output, noisy, alpha, sigma):
    """The noise ε that an output means: itself, or α v + σ x_t."""
    require_prediction(prediction)
    return output if prediction == "eps" else alpha * output + sigma * noisy
