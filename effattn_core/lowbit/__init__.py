"""TO WRITE: in a line, what lowbit is and what it saves."""

from effattn_core.lowbit.forms import lowbit, oracle

__all__ = ["lowbit", "oracle"]
