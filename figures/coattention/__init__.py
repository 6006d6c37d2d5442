"""Figures of the chapter on attention beyond one sequence: a builder per question, and the sentence that says it."""

from figures.coattention.fusion import (
    NOISES,
    NORMS,
    SHOWN,
    aspects,
    aspects_says,
    bound,
    bound_says,
    columns,
    columns_says,
    noisy,
    noisy_says,
)
from figures.coattention.languages import SEEDS, TRIPLES, digits, digits_says
from figures.coattention.slices import SLOPES, WALKS, decays, decays_says, ending, ending_says
from figures.coattention.trees import DEPTHS, parsers, parsers_says
from figures.coattention.views import SPANS, alignment, alignment_says
from figures.coattention.votes import ABLE, AGREE, ballot, ballot_says

__all__ = [
    "NOISES",
    "NORMS",
    "SHOWN",
    "aspects",
    "aspects_says",
    "bound",
    "bound_says",
    "columns",
    "columns_says",
    "noisy",
    "noisy_says",
    "ABLE",
    "AGREE",
    "DEPTHS",
    "SEEDS",
    "SLOPES",
    "SPANS",
    "TRIPLES",
    "WALKS",
    "alignment",
    "alignment_says",
    "ballot",
    "ballot_says",
    "decays",
    "decays_says",
    "digits",
    "digits_says",
    "ending",
    "ending_says",
    "parsers",
    "parsers_says",
]
