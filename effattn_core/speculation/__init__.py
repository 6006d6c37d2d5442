"""TO WRITE: in a line, what speculation is and what it saves."""

from effattn_core.speculation.forms import speculation, oracle

__all__ = ["speculation", "oracle"]
