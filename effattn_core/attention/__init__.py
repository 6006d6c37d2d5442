"""Softmax attention: every form of it, the call that chooses one, and what its parts merge to."""

from effattn_core.attention.forms import (
    BLOCK,
    Part,
    fill_infinite,
    key_ranges,
    merge,
    online_softmax,
    oracle,
    part_of,
    tiled,
    tiled_backward,
    visible,
)
from effattn_core.attention.interface import attention, attention_part

__all__ = [
    "BLOCK",
    "Part",
    "attention",
    "attention_part",
    "fill_infinite",
    "key_ranges",
    "merge",
    "online_softmax",
    "oracle",
    "part_of",
    "tiled",
    "tiled_backward",
    "visible",
]
