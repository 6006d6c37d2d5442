"""Optimizer states in two to eight bits: quantisers, packing, random numbers by counter, and the optimizers."""

from effattn_core.lowbit.levels import levels, logarithmic_levels, midpoints
from effattn_core.lowbit.optimizer import LowBitOptimizer, state_bytes
from effattn_core.lowbit.packing import pack, packed_bytes, unpack
from effattn_core.lowbit.quantisers import Quantised, Quantiser, dequantise, quantise
from effattn_core.lowbit.variants import AdamW8bit, LowBitAdamW, LowBitSGD, NaiveAdamW, SOLOAdamW

__all__ = [
    "AdamW8bit",
    "LowBitAdamW",
    "LowBitOptimizer",
    "LowBitSGD",
    "NaiveAdamW",
    "Quantised",
    "Quantiser",
    "SOLOAdamW",
    "dequantise",
    "levels",
    "logarithmic_levels",
    "midpoints",
    "pack",
    "packed_bytes",
    "quantise",
    "state_bytes",
    "unpack",
]
