"""Retention: a sum over the past that fades, in three forms that agree: parallel, recurrent, chunkwise."""

from effattn_core.retention.forms import (
    SEGMENT,
    Chunkwise,
    Fading,
    chunk_for,
    chunkwise,
    chunkwise_backward,
    decay_mask,
    decay_schedule,
    half_life,
    new_state,
    parallel,
    recurrent,
    step,
)
from effattn_core.retention.interface import FORMS, retention

__all__ = [
    "FORMS",
    "SEGMENT",
    "Chunkwise",
    "Fading",
    "chunk_for",
    "chunkwise",
    "chunkwise_backward",
    "decay_mask",
    "decay_schedule",
    "half_life",
    "new_state",
    "parallel",
    "recurrent",
    "retention",
    "step",
]
