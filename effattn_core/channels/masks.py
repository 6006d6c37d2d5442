"""Masks of key channels: which are kept, from importances; what a head without any means; the layout of a cache."""

import math
from dataclasses import dataclass

import torch

from effattn_core import calls


def middle_mass(whole: int, logit: float, far: int, empty: str = "zero") -> float:
    """Share of a head's attention that its middle takes if the head keeps no channel (eq. channels-empty).

    whole: tokens that are read whole, all with the same `logit`; far: tokens of the middle, whose logits are 0.
    """
    return 0.0 if empty == "removed" else far / (far + whole * math.exp(logit))


def build_mask(importance: torch.Tensor, pruned: float, align: int = 1) -> torch.Tensor:
    """The channels to keep: bool of importance's shape, [..., head_dim], about 1 - pruned of all (eq. channels-mask).

    One threshold for all layers and heads, the quantile `pruned`; each head's count of channels at or above it is then
    rounded to the nearest multiple of `align`, and its most important ones are kept. Ties at the threshold are all
    counted, so importances must be spread. Raises ValueError for a share outside [0, 1], or an align that does not fit.
    """
    if not 0 <= pruned <= 1:
        raise ValueError(f"pruned must be a share in [0, 1]; it is {pruned}.")
    calls.require_count("align", align)
    if importance.shape[-1] % align:
        raise ValueError(f"align must divide head_dim; it is {align} for channels of {importance.shape[-1]}.")
    if pruned == 1:
        return torch.zeros_like(importance, dtype=torch.bool)
    threshold = importance.double().flatten().quantile(pruned)
    count = (importance.double() >= threshold).sum(-1, keepdim=True)
    count = (count + align // 2) // align * align
    return keep_top(importance, count)


def keep_top(importance: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """The `count` most important channels of each head: bool of importance's shape. count: one, or one per head."""
    return importance.argsort(dim=-1, descending=True, stable=True).argsort(-1) < count


@dataclass(frozen=True)
class Plan:
    """How a layer's heads are laid out in a cache: those with equally many channels lie together.

    order: int64 [key_heads], the key heads by falling count; channels: an int64 [heads, count] for each group, in that
    order. The heads left over at the end keep none.
    """

    order: torch.Tensor
    channels: tuple[torch.Tensor, ...]

    @property
    def groups(self) -> list[tuple[int, int]]:
        """(heads, count) of each group, those without channels left out."""
        return [tuple(each.shape) for each in self.channels]


def plan(kept: torch.Tensor) -> Plan:
    """The Plan of a mask. kept: bool [key_heads, head_dim]."""
    if kept.dtype != torch.bool or kept.ndim != 2:
        raise ValueError(f"a mask is bool [key_heads, head_dim]; it is {kept.dtype}, {tuple(kept.shape)}.")
    count = kept.sum(-1)
    order = count.argsort(descending=True, stable=True)
    sizes = sorted({each for each in count.tolist() if each}, reverse=True)
    heads = [order[count[order] == each] for each in sizes]
    return Plan(order, tuple(kept[each].nonzero()[:, 1].view(len(each), -1) for each in heads))
