"""Rectified sparse attention (ReSA): which blocks of the cache a token reads, and attention over those alone."""

from effattn_core.rectified.forms import (
    GATES,
    Choice,
    block_attention,
    block_bounds,
    block_means,
    bound_scores,
    bound_scores_oracle,
    bound_scores_torch,
    choose_blocks,
    dense_pass,
    gathered,
    mean_scores,
    oracle,
    pooled,
)

__all__ = [
    "Choice",
    "GATES",
    "block_attention",
    "block_bounds",
    "block_means",
    "bound_scores",
    "bound_scores_oracle",
    "bound_scores_torch",
    "choose_blocks",
    "dense_pass",
    "gathered",
    "mean_scores",
    "oracle",
    "pooled",
]
