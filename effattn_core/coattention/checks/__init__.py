"""The hidden cases of the exercises on attention beyond one sequence."""

from effattn_core.coattention.checks import fusion, graphs

__all__ = ["fusion", "graphs"]
