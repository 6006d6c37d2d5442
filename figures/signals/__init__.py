"""Figures of training signals: a builder for each question, and the sentence that says what it shows."""

from figures.signals.clusters import MOVES, SIZES, TEXTS, reads, reads_says
from figures.signals.programs import (
    PERSONS,
    PLAYS,
    QUESTIONS,
    ROUNDS,
    SHOWN,
    VERDICTS,
    WORDS,
    asking,
    asking_says,
    claim,
    claim_says,
    filters,
    filters_says,
    labels,
    labels_says,
)
from figures.signals.slots import DRAWS, SLOTS, drift, drift_says
from figures.signals.translation import ARMS, QUOTES, styled, styled_says
from figures.signals.weights import FLIPPED, arrows, arrows_says

__all__ = [
    "ARMS",
    "DRAWS",
    "FLIPPED",
    "MOVES",
    "PERSONS",
    "PLAYS",
    "QUESTIONS",
    "QUOTES",
    "ROUNDS",
    "SHOWN",
    "SIZES",
    "SLOTS",
    "TEXTS",
    "VERDICTS",
    "WORDS",
    "arrows",
    "arrows_says",
    "asking",
    "asking_says",
    "claim",
    "claim_says",
    "drift",
    "drift_says",
    "filters",
    "filters_says",
    "labels",
    "labels_says",
    "reads",
    "reads_says",
    "styled",
    "styled_says",
]
