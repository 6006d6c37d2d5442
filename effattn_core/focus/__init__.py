"""TO WRITE: in a line, what focus is and what it saves."""

from effattn_core.focus.forms import focus, oracle

__all__ = ["focus", "oracle"]
