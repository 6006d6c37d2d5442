"""Key channels that a decoded token need not read (LeanK): a fixed mask, attention under it, and its cache."""

from effattn_core.channels.forms import (
    EMPTY,
    ChannelCache,
    Plan,
    build_mask,
    decode,
    deploy,
    grouped,
    keep_top,
    masked,
    middle,
    middle_mass,
    new_states,
    oracle,
    permute_heads,
    plan,
)

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
]
