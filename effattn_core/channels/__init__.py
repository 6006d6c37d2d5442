"""Key channels that a decoded token need not read (LeanK): a fixed mask, attention under it, and its cache."""

from effattn_core.channels.cache import ChannelCache, deploy, new_states, permute_heads
from effattn_core.channels.forms import grouped, middle, oracle, together
from effattn_core.channels.interface import EMPTY, decode, masked
from effattn_core.channels.masks import Plan, build_mask, keep_top, middle_mass, plan

__all__ = [
    "ChannelCache",
    "EMPTY",
    "Plan",
    "build_mask",
    "decode",
    "deploy",
    "grouped",
    "keep_top",
    "masked",
    "middle",
    "middle_mass",
    "new_states",
    "oracle",
    "permute_heads",
    "plan",
    "together",
]
