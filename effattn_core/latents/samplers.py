"""Samplers: from pure noise to a latent along a grid of times, each a function without a memory of its own.

`denoise(noisy, time, alpha, sigma)` answers with the clean latent D that it expects; time: a whole number, α and σ
plain numbers. Steps are written in x_t = α x + σ ε and λ = ln(α / σ); a dash means the next time, h = λ' - λ.
"""

import math
from dataclasses import dataclass

import torch

from effattn_core.calls import require_count
from effattn_core.latents.schedule import Schedule, normal

SAMPLERS = ("ddpm", "ddpm large", "ddim", "2m")
LAST = 999  # the time that released code starts from; eps prediction cannot, see CLIPPED
CLIPPED = 995  # the first time whose signal is large enough for eps prediction (λ = -5.1)


@dataclass(frozen=True)
class Grid:
    """Times in the order of their visits. time: int64 [steps]; alpha, sigma: float64 [steps + 1], with the end.

    Each step goes from entry j to entry j + 1; the network is asked at the first of the two.
    """

    time: torch.Tensor
    alpha: torch.Tensor
    sigma: torch.Tensor

    def __len__(self):
        return len(self.time)


def grid(schedule: Schedule, steps: int, first: int = LAST) -> Grid:
    """`steps` times from `first` down, evenly spaced and rounded, then the clean latent (σ = 0) (A8).

    Raises ValueError unless 1 <= steps <= first < len(schedule).
    """
    require_count("steps", steps)
    require_count("first", first)
    if not 1 <= steps <= first < len(schedule):
        raise ValueError(f"steps and first must fit 1 <= steps <= first < {len(schedule)}; got {steps} and {first}.")
    place = dict(dtype=torch.float64, device=schedule.alpha.device)
    time = torch.linspace(0, first, steps + 1, **place).round().long().flip(0)[:-1]
    one, none = torch.ones(1, **place), torch.zeros(1, **place)
    return Grid(time, torch.cat((schedule.alpha[time], one)), torch.cat((schedule.sigma[time], none)))


def even_grid(steps: int, low: float = -3.0, high: float = 3.0) -> Grid:
    """`steps` steps evenly spaced in λ from `low` to `high`, which is not clean: what orders are measured on."""
    require_count("steps", steps)
    log_snr = torch.linspace(low, high, steps + 1, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * log_snr).sqrt(), torch.sigmoid(-2 * log_snr).sqrt()
    return Grid(torch.arange(steps).flip(0), alpha, sigma)


def ddim_step(noisy, clean, now, after, eta=0.0, noise=None):
    """x' = α' D + sqrt(σ'² - v) ε̂ + sqrt(v) z, v = η² σ'²/σ² (1 - α²/α'²), ε̂ = (x - α D) / σ (Song et al. 2021).

    now, after: pairs (α, σ). noise: z, of the shape of `noisy`; needed for eta above 0 alone.
    """
    (alpha, sigma), (next_alpha, next_sigma) = now, after
    variance = eta**2 * (next_sigma / sigma) ** 2 * (1 - (alpha / next_alpha) ** 2)
    moved = next_alpha * clean + math.sqrt(next_sigma**2 - variance) * (noisy - alpha * clean) / sigma
    return moved if variance == 0 else moved + math.sqrt(variance) * noise


def ddpm_step(noisy, clean, now, after, noise, large=False):
    """x' = α' b / σ² D + sqrt(r) σ'² / σ² x + sqrt(variance) z, r = (α / α')², b = 1 - r (Ho et al. 2020, eq. 7).

    variance: b σ'² / σ², or b where it is `large`; none in the last step, to σ' = 0.
    """
    (alpha, sigma), (next_alpha, next_sigma) = now, after
    kept = (alpha / next_alpha) ** 2
    mean = next_alpha * (1 - kept) / sigma**2 * clean + math.sqrt(kept) * (next_sigma / sigma) ** 2 * noisy
    variance = (1 - kept) * (1.0 if large else (next_sigma / sigma) ** 2)
    return mean if next_sigma == 0 else mean + math.sqrt(variance) * noise


def dpmpp_2m_step(noisy, clean, before, past, now, after):
    """x' = σ'/σ x - α' (e^-h - 1) D̃, D̃ = D + (D - D_before) / (2 r), r = h_before / h (DPM-Solver++, 2M, midpoint).

    clean: D; before: D of the step before, at `past`, both None in the first step, which is of order 1 as DDIM is. The
    last step, to σ' = 0, is of order 1 too and answers D.
    """
    (alpha, sigma), (next_alpha, next_sigma) = now, after
    if next_sigma == 0:
        return next_alpha * clean
    log_snr, step = math.log(alpha / sigma), math.log(next_alpha / next_sigma) - math.log(alpha / sigma)
    if before is not None:
        ratio = (log_snr - math.log(past[0] / past[1])) / step
        clean = clean + (clean - before) / (2 * ratio)
    return next_sigma / sigma * noisy - next_alpha * math.expm1(-step) * clean


def sample(denoise, start, grid, *, sampler="2m", eta=0.0, generator=None, trace=None):
    """Follow `grid` from `start`, pure noise of any shape. Returns the last latent, of that shape and dtype.

    sampler: of SAMPLERS. eta: of DDIM, how much of its noise is drawn anew, from 0 to 1. trace: a list that each latent
    is added to. Nothing is kept from one call to the next. Raises ValueError for another sampler or eta.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS}; it is {sampler!r}.")
    if not 0 <= eta <= (sampler == "ddim"):
        raise ValueError(f"eta must lie in [0, 1], and is 0 but for 'ddim'; it is {eta} for {sampler!r}.")
    places = list(zip(grid.alpha.tolist(), grid.sigma.tolist(), strict=True))
    noisy, before, past = start, None, None
    for time, now, after in zip(grid.time.tolist(), places, places[1:], strict=False):
        clean = denoise(noisy, time, *now)
        if sampler == "2m":
            noisy, before, past = dpmpp_2m_step(noisy, clean, before, past, now, after), clean, now
        elif sampler == "ddim":
            noisy = ddim_step(noisy, clean, now, after, eta, normal(noisy.shape, noisy, generator) if eta else None)
        else:
            noisy = ddpm_step(
                noisy, clean, now, after, normal(noisy.shape, noisy, generator), large=sampler == "ddpm large"
            )
        if trace is not None:
            trace.append(noisy)
    return noisy


def guided(conditional, unconditional, weight):
    """Classifier-free guidance: u + w (c - u); w = 1 is none, w = 0 forgets the condition (Ho and Salimans 2022).

    Of ε, of v or of D alike: for one noisy latent they are the same straight line.
    """
    return unconditional + weight * (conditional - unconditional)
