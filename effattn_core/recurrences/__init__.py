"""Recurrences: one state, one update per token, many rules (linear attention, retention, gates, delta rules).

`rules` is the table, `loop` the oracle that reads like it, `gated` and `delta` the forms by chunks, `interface` the
call. Tensors are [batch, heads, time, size]; the state is [batch, heads, key_dim, value_dim].
"""

from effattn_core.recurrences.delta import delta_chunkwise
from effattn_core.recurrences.gated import Gated, chunk_for, gated_backward, gated_chunkwise, gated_step
from effattn_core.recurrences.interface import FORMS, chunkwise, gated_recurrence, recurrence
from effattn_core.recurrences.loop import oracle
from effattn_core.recurrences.rules import RULES, Rule, discretised, new_state, positive_features, unit_keys

__all__ = [
    "FORMS",
    "Gated",
    "RULES",
    "Rule",
    "chunk_for",
    "chunkwise",
    "delta_chunkwise",
    "discretised",
    "gated_backward",
    "gated_chunkwise",
    "gated_recurrence",
    "gated_step",
    "new_state",
    "oracle",
    "positive_features",
    "recurrence",
    "unit_keys",
]
