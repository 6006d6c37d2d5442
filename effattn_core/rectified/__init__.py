"""Rectified sparse attention (ReSA): which blocks of the cache a token reads, and attention over those alone."""

from effattn_core.rectified.forms import (
    GATES,
    Choice,
    block_bounds,
    block_means,
    bound_scores_oracle,
    bound_scores_torch,
    choose_blocks,
    gathered,
    mean_scores,
    near,
    oracle,
    picked,
    pooled,
)
from effattn_core.rectified.interface import block_attention, bound_scores, check_list, dense_pass

__all__ = [
    "Choice",
    "GATES",
    "block_attention",
    "block_bounds",
    "block_means",
    "bound_scores",
    "bound_scores_oracle",
    "bound_scores_torch",
    "check_list",
    "choose_blocks",
    "dense_pass",
    "gathered",
    "mean_scores",
    "near",
    "oracle",
    "picked",
    "pooled",
]
