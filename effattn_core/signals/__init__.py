"""Training signals that you make yourself: programs, claims, weights and slots, and what checks each of them."""

from effattn_core.signals.programs import Program, execute, grounded, knowledge, oracle
from effattn_core.signals.tables import verdict_likelihood
from effattn_core.signals.tokens import best_bias, label_loss, label_probabilities

__all__ = [
    "Program",
    "best_bias",
    "execute",
    "grounded",
    "knowledge",
    "label_loss",
    "label_probabilities",
    "oracle",
    "verdict_likelihood",
]
