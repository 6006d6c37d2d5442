"""A long text in chunks, each condensed into one candidate token that a frozen model then reads (FocusLLM)."""

from effattn_core.focus.forms import (
    Condensed,
    Layout,
    Projections,
    condensed,
    layout,
    oracle,
    scores_chunked,
    scores_dense,
)
from effattn_core.focus.model import (
    Added,
    Candidates,
    Split,
    condense,
    decode,
    predict,
    prompted,
    read_chunks,
    refresh,
    split,
)

__all__ = [
    "Added",
    "Candidates",
    "Condensed",
    "Layout",
    "Projections",
    "Split",
    "condense",
    "condensed",
    "decode",
    "layout",
    "oracle",
    "predict",
    "prompted",
    "read_chunks",
    "refresh",
    "scores_chunked",
    "scores_dense",
    "split",
]
