"""Softmax attention: the oracle, the online softmax, the tiled form, the merge of parts, and the key-value cache."""

from effattn_core.attention.forms import (
    BLOCK,
    KeyValueCache,
    Part,
    WindowCache,
    attention,
    attention_part,
    key_ranges,
    merge,
    online_softmax,
    oracle,
    tiled,
    tiled_backward,
    visible,
)

__all__ = [
    "BLOCK",
    "KeyValueCache",
    "Part",
    "WindowCache",
    "attention",
    "attention_part",
    "key_ranges",
    "merge",
    "online_softmax",
    "oracle",
    "tiled",
    "tiled_backward",
    "visible",
]
