"""Structure learned by gradient: rule nets whose literals are weights above a half, masks, joint decisions, margins."""

from effattn_core.discrete.activations import (
    LAF,
    MILD,
    PRODUCT,
    SHARP,
    STEEP,
    Activation,
    conjunction,
    disjunction,
    hard_conjunction,
    hard_disjunction,
)
from effattn_core.discrete.estimators import estimated, graft
from effattn_core.discrete.interface import rules
from effattn_core.discrete.nets import RuleNet, fit
from effattn_core.discrete.reading import read
from effattn_core.discrete.rulesets import rule_set, train_rule_sets
from effattn_core.discrete.tables import Encoder, split, table

__all__ = [
    "LAF",
    "MILD",
    "PRODUCT",
    "SHARP",
    "STEEP",
    "Activation",
    "Encoder",
    "RuleNet",
    "conjunction",
    "disjunction",
    "estimated",
    "fit",
    "graft",
    "hard_conjunction",
    "hard_disjunction",
    "read",
    "rule_set",
    "rules",
    "split",
    "table",
    "train_rule_sets",
]
