"""The part of the run that shows how latents lose their noise: its arms, and the generators' tokenisers."""

import torch

from effattn_core.latents.tokenisers import Tokeniser, noisy_error, spread_ratio, train_tokeniser
from effattn_core.measurements import curve

PATCH = 7
ARMS = {  # name -> settings of a Tokeniser
    **{f"VAE, β {beta:g}": dict(kind="vae", beta=beta) for beta in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)},
    **{f"fixed σ, β {beta:g}": dict(kind="fixed", beta=beta) for beta in (0.0, 1e-2)},
    **{f"σ-VAE, β {beta:g}": dict(kind="sigma", beta=beta) for beta in (0.0, 1e-4, 1e-3, 1e-2, 1e-1)},
    **{f"unit RMS, σ {spread:g}": dict(kind="rms", spread=spread) for spread in (0.2, 0.5, 0.75)},
}
TOKENISERS = {  # of one spread where they have one, so that it is the rule that differs
    "σ-VAE": dict(kind="sigma", spread=0.5, beta=1e-2),
    "VAE": dict(kind="vae", beta=1e-6),
    "unit RMS": dict(kind="rms", spread=0.5),
    "codes": dict(kind="vq", codes=128),
}
NOISES, COLLAPSE_STEPS = (0.0, 0.3, 0.5, 1.0), 300


def made(settings, seed=0):
    """A Tokeniser of these settings, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    return Tokeniser(patch=PATCH, **settings)


def collapse_rows(digits, arm, seed, steps):
    """One arm of the collapse experiment."""
    settings = ARMS[arm]
    tokeniser = made(settings, seed)
    losses = train_tokeniser(tokeniser, digits.images, steps=steps, seed=seed)
    deviation, ratio = spread_ratio(tokeniser, digits.held_images)
    noise = {f"{each:g}": noisy_error(tokeniser, digits.held_images, each) for each in NOISES}
    return [
        {"what": "collapse", "arm": arm, "kind": tokeniser.kind, "beta": tokeniser.beta, "spread": tokeniser.spread,
         "seed": seed, "steps": steps, "deviation": deviation, "ratio": ratio, "noise": noise, "curve": curve(losses)}
    ]  # fmt: skip
