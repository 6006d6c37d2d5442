"""Figures of structure learned by gradient: activations and rules, masks, messages, margins."""

from figures.discrete.masks import SIGMAS, smoothing, smoothing_says
from figures.discrete.rules import (
    CUTS,
    DROPPED,
    INPUTS,
    TABLES,
    cutting,
    cutting_says,
    editable,
    edited,
    edited_says,
    scores,
    scores_says,
    vanishing,
    vanishing_says,
)
from figures.discrete.settling import (
    COUPLINGS,
    DAMPINGS,
    MISSING,
    settling,
    settling_says,
    turning,
    turning_says,
)

__all__ = [
    "COUPLINGS",
    "CUTS",
    "DAMPINGS",
    "DROPPED",
    "INPUTS",
    "MISSING",
    "SIGMAS",
    "TABLES",
    "cutting",
    "cutting_says",
    "editable",
    "edited",
    "edited_says",
    "scores",
    "scores_says",
    "settling",
    "settling_says",
    "smoothing",
    "smoothing_says",
    "turning",
    "turning_says",
    "vanishing",
    "vanishing_says",
]
