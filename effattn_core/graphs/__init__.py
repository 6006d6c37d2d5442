"""TO WRITE: in a line, what graphs is and what it saves."""

from effattn_core.graphs.forms import graphs, oracle

__all__ = ["graphs", "oracle"]
