"""One index for all layers that read one cache (CLSA): a lightning indexer scores every token, few rows are read."""

from effattn_core.indexing.forms import (
    choose_rows,
    gather_torch,
    gathered,
    hide_future,
    mask_of,
    near_torch,
    oracle,
    scores_oracle,
    select_torch,
)
from effattn_core.indexing.interface import gather_rows, row_attention, select_rows

__all__ = [
    "choose_rows",
    "gather_rows",
    "gather_torch",
    "gathered",
    "hide_future",
    "mask_of",
    "near_torch",
    "oracle",
    "row_attention",
    "scores_oracle",
    "select_rows",
    "select_torch",
]
