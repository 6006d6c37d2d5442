"""graphs: the definition, and the form that a reader without a GPU runs."""

import torch


def oracle(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """TO WRITE: what it computes, by the chapter's equation (eq. graphs), in at most twenty lines.

    query, key, value: [batch, heads, time, head_dim], floating.   Returns [batch, heads, time, head_dim].
    """
    raise NotImplementedError("TO WRITE: the oracle, the shortest correct form.")


def graphs(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, implementation: str | None = None
) -> torch.Tensor:
    """TO WRITE: the call, in a line.

    Shapes as `oracle` takes them. implementation: "oracle" (float64), "torch", "triton", or None for what fits:
    the rule is that of `effattn_core.calls`, and so are the refusals. Raises ValueError: TO WRITE, each in one
    sentence with what was given and what is wanted.
    """
    raise NotImplementedError("TO WRITE: the fast form, by effattn_core.calls.")
