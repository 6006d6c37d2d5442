"""Logical activations: AND and OR that have a slope. Each is a sum of violations, squashed; sums and slopes differ.

inputs: [rows, n], truth values in [0, 1]; weight: [n, nodes] in [0, 1], a literal belongs to a rule iff its weight is
above a half. Product: MLLP (arXiv 1912.04695); LAF and NLAF: RRL (arXiv 2109.15103, 2310.14336), by their code.
"""

import math
from dataclasses import dataclass

import torch

# Of 1 - W u in the logarithm: at W = u = 1 it would be ln 0. The released code adds 1e-10; slopes reach 1/FLOOR.
FLOOR = 1e-4


@dataclass(frozen=True)
class Activation:
    """kind: "product", "laf" or "nlaf"; alpha, beta, gamma: of nlaf alone, as the paper names them."""

    kind: str
    alpha: float = 0.9
    beta: float = 3.0
    gamma: float = 3.0

    def __post_init__(self):
        if self.kind not in ("product", "laf", "nlaf"):
            raise ValueError(f"an activation is product, laf or nlaf; got {self.kind!r}.")
        if self.kind == "nlaf" and not (0 < self.alpha < 1 and self.beta > 0 and self.gamma > 0):
            raise ValueError(
                f"nlaf wants alpha in (0, 1), beta and gamma above 0; got {self.alpha}, {self.beta}, {self.gamma}."
            )

    def stretch(self, value):
        """φ(t) = (αt)^β / (1 - (αt)^β)     (eq. discrete-stretch)"""
        power = (self.alpha * value) ** self.beta
        return power / (1 - power)

    def squash(self, total):
        """From a sum of violations, 0 for none, to truth: 1 for none."""
        if self.kind == "product":
            return torch.exp(-total)
        return (1 + total) ** -(1.0 if self.kind == "laf" else self.gamma)

    @property
    def most(self):
        """c = φ(1) of nlaf: what a violated input counts; 1 for the others, whose sums count it in the weight."""
        return self.stretch(1.0) if self.kind == "nlaf" else 1.0


PRODUCT, LAF = Activation("product"), Activation("laf")
SHARP, MILD = Activation("nlaf", 0.999, 8, 1), Activation("nlaf", 0.9, 3, 3)
STEEP = Activation("nlaf", 0.999, 8, 3)
ACTIVATIONS = {
    "product": PRODUCT, "LAF": LAF, "NLAF .999/8/1": SHARP, "NLAF .999/8/3": STEEP, "NLAF .9/3/3": MILD,
}  # fmt: skip


def require(inputs, weight):
    """Raise ValueError unless inputs [rows, n] and weight [n, nodes] fit together."""
    if inputs.ndim != 2 or weight.ndim != 2 or inputs.shape[1] != weight.shape[0]:
        given = tuple(inputs.shape), tuple(weight.shape)
        raise ValueError(f"inputs [rows, n] and weight [n, nodes] must share n; got {given[0]} and {given[1]}.")


def total_violation(violated, weight, activation):
    """S_j = Σ_i -ln(1 - W_ij u_i), or Σ_i φ(u_i) φ(W_ij) of nlaf     (eq. discrete-sums), by broadcast, float64."""
    require(violated, weight)
    violated, weight = violated.double()[:, :, None], weight.double()[None]
    if activation.kind == "nlaf":
        return (activation.stretch(violated) * activation.stretch(weight)).sum(1)
    return -(1 - violated * weight).clamp(min=FLOOR).log().sum(1)


def conjunction(inputs, weight, activation):
    """The oracle of AND: a literal violates a rule by what it lacks to 1     (eq. discrete-and). Float64."""
    return activation.squash(total_violation(1 - inputs.double(), weight, activation))


def disjunction(inputs, weight, activation):
    """The oracle of OR, by De Morgan: not (not x and not y)     (eq. discrete-or). Float64."""
    return 1 - activation.squash(total_violation(inputs, weight, activation))


def hard_conjunction(inputs, weight):
    """1 iff no literal of the rule, weight above a half, is false. Inputs 0 or 1; an empty rule is always true."""
    require(inputs, weight)
    return (((1 - inputs) @ (weight > 0.5).to(inputs.dtype)) < 0.5).to(inputs.dtype)


def hard_disjunction(inputs, weight):
    """1 iff some literal of the rule is true. An empty one is never true."""
    return 1 - hard_conjunction(1 - inputs, weight)


def residual(activation):
    """What one full violation, u = W = 1, leaves of a conjunction: 0 would be hard."""
    if activation.kind == "nlaf":
        return (1 + activation.most**2) ** -activation.gamma
    return FLOOR if activation.kind == "product" else 1 / (1 - math.log(FLOOR))


def mean_slope(activation, n):
    """Mean |∂y/∂W| of one weight at the start: n inputs 0 or 1 at random, weights uniform in [0, ½].

    The product's is exact (eq. discrete-vanish). The others put the mean of the sum for the sum: up to a fifth off for
    a few hundred inputs, 2 % at 4,096.
    """
    if activation.kind == "product":  # half of inputs violate; E[1 - W] = 3/4 for those, the own factor left out
        return 0.5 * 0.875 ** (n - 1)
    if activation.kind == "laf":
        return math.log(2) * (1 + n * (1 - math.log(2)) / 2) ** -2
    mean, rise = _nlaf_moments(activation)
    c = activation.most
    return activation.gamma * c / 2 * rise * (1 + n * c / 2 * mean) ** (-activation.gamma - 1)


def _nlaf_moments(activation, pieces=4000):
    """(mean φ, mean φ') over weights uniform in [0, ½]; φ(0) = 0, so the second is 2 φ(½)."""
    middle = (torch.arange(pieces, dtype=torch.float64) + 0.5) / (2 * pieces)
    return activation.stretch(middle).mean().item(), 2 * activation.stretch(0.5)
