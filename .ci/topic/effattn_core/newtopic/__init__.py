"""TO WRITE: in a line, what newtopic is and what it saves."""

from effattn_core.newtopic.forms import newtopic, oracle

__all__ = ["newtopic", "oracle"]
