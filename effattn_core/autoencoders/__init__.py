"""TO WRITE: in a line, what autoencoders is and what it saves."""

from effattn_core.autoencoders.forms import autoencoders, oracle

__all__ = ["autoencoders", "oracle"]
