"""What the machine charges for: memory levels with their sources, operations and bytes of a step, the roofline."""

from effattn_core.machine.levels import HIERARCHIES, LAPTOP, Level
from effattn_core.machine.measure import measure
from effattn_core.machine.roofline import (
    Work,
    attainable,
    decode,
    decode_attention,
    linear,
    prefill,
    prefill_attention,
    ridge,
)

__all__ = [
    "HIERARCHIES",
    "LAPTOP",
    "Level",
    "Work",
    "attainable",
    "decode",
    "decode_attention",
    "linear",
    "measure",
    "prefill",
    "prefill_attention",
    "ridge",
]
