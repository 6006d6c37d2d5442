"""A tokeniser whose optimum is known: what the weight of the penalty does to the spread of latents, in closed form.

Data are one normal number x of deviation q; the latent is z = a x + s ε, decoded as d z. With m = ``|a|`` q, the
deviation of the means, the best decoder leaves the error q² s² / (m² + s²), whatever the kind: only s / m counts.
"""

import math
from dataclasses import dataclass

from effattn_core.latents.tokenisers import MEAN_OF_HALF_NORMAL

DEVIATION = 0.35  # q, by which the recorded digits' tokenisers are met: see the chapter's figure
KINDS = ("vae", "sigma", "rms")


@dataclass(frozen=True)
class Optimum:
    """deviation of the means; spread of the noise, its mean absolute scale; rms of the noise; error that is left."""

    deviation: float
    spread: float
    rms: float
    error: float

    @property
    def ratio(self):
        """Spread over deviation: 0 where the noise has died out, infinite where the means have."""
        return self.spread / self.deviation if self.deviation else math.inf


def optimum(kind, beta, *, spread=0.75, deviation=DEVIATION):
    """The Optimum of a linear tokeniser (eq. latents-collapse).

    "vae": the loss is error + β KL; the noise takes the share t = min(1, β / 2q²) of a unit variance, m² = 1 - t.
    "sigma": error + β m² at a given spread; m² = q s / √β - s², s the rms of the noise, 1.25 times the spread.
    "rms": m = 1 at a given spread, whatever β. deviation: q.
    Raises ValueError for another kind, and for a β, spread or deviation that is not above 0.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; it is {kind!r}.")
    for name, given in dict(beta=beta, spread=spread, deviation=deviation).items():
        if given <= 0:
            raise ValueError(f"{name} must be above 0; it is {given}.")
    power = deviation**2
    if kind == "vae":
        share = min(1.0, beta / (2 * power))
        return Optimum(math.sqrt(1 - share), math.sqrt(share), math.sqrt(share), power * share)
    rms = spread / MEAN_OF_HALF_NORMAL
    squared = 1.0 if kind == "rms" else max(0.0, deviation * rms / math.sqrt(beta) - rms**2)
    return Optimum(math.sqrt(squared), spread, rms, power * rms**2 / (squared + rms**2))
