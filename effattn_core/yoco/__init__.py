"""YOCO: a self-decoder reads the text, keys and values are made once, and a cross-decoder attends to them."""

from effattn_core.yoco.forms import oracle
from effattn_core.yoco.model import YOCO, CrossAttention, SharedCacheWriter

__all__ = [
    "CrossAttention",
    "SharedCacheWriter",
    "YOCO",
    "oracle",
]
