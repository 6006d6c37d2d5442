"""TO WRITE: in a line, what latents is and what it saves."""

from effattn_core.latents.forms import latents, oracle

__all__ = ["latents", "oracle"]
