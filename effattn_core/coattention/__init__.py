"""Attention beyond one sequence: two inputs, facts, graphs and pooling. Log-sum-exp keeps what softmax divides away."""

from effattn_core.coattention.attend import attend, summed

__all__ = ["attend", "summed"]
