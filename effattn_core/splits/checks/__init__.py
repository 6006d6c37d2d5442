"""The hidden cases of the exercises on splits."""

from effattn_core.splits.checks import comparison, institutions

__all__ = ["comparison", "institutions"]
