"""YOCO-U: the self-decoder is gone through several times with one set of weights: depth grows, the cache does not."""

from effattn_core.universal.model import (
    RandomLoops,
    UniversalTransformer,
    UniversalYOCO,
    kept_tensors,
    loop_changes,
)

__all__ = [
    "RandomLoops",
    "UniversalTransformer",
    "UniversalYOCO",
    "kept_tensors",
    "loop_changes",
]
