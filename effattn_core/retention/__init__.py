"""Retention: a sum over the past that fades, in three forms that agree: parallel, recurrent, chunkwise."""

from effattn_core.retention.forms import (
    FORMS,
    SEGMENT,
    Fading,
    chunkwise,
    chunkwise_backward,
    decay_mask,
    decay_schedule,
    half_life,
    new_state,
    parallel,
    recurrent,
    retention,
)

__all__ = [
    "FORMS",
    "Fading",
    "SEGMENT",
    "chunkwise",
    "chunkwise_backward",
    "decay_mask",
    "decay_schedule",
    "half_life",
    "new_state",
    "parallel",
    "recurrent",
    "retention",
]
