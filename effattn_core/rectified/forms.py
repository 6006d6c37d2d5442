"""Rectified sparse attention (ReSA): which blocks of the cache a decoded token reads, and attention over those alone.

Tensors are [batch, heads, time, head_dim]; keys and values may have fewer heads, as in `effattn_core.attention`.
A block is `block_size` tokens in a row, the last one may be shorter. Source: Sun et al. 2025, arXiv 2506.04108.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core import calls
from effattn_core.attention import Part, part_of

GATES = ("bound", "mean")


@dataclass(frozen=True)
class Choice:
    """How the blocks that a token reads are chosen. The defaults are those of the released code.

    active: share of all blocks; least: blocks read at least; local: newest blocks, always read.
    shared: one list for all query heads of a key head, by their mean query; else one list per query head (Quest).
    gate: "bound", the most that a key of the block could score, or "mean", the score of its mean key (MoBA).
    """

    block_size: int = 16
    active: float = 0.1
    least: int = 16
    local: int = 1
    shared: bool = True
    gate: str = "bound"

    def __post_init__(self):
        for name in ("block_size", "least", "local"):
            calls.require_count(name, getattr(self, name))
        if not 0 <= self.active <= 1:
            raise ValueError(f"active is a share of the blocks, in [0, 1]; it is {self.active}.")
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}; it is {self.gate!r}.")

    def count(self, blocks: int) -> int:
        """How many of `blocks` blocks are read: max(ceil(active · blocks), least, local), and no more than there are.

        Rounded to nine digits first, so that a tenth of thirty is three and not four.
        """
        return min(blocks, max(math.ceil(round(self.active * blocks, 9)), self.least, self.local))


def block_bounds(key: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(lowest, highest): elementwise, over the keys of each block. Each [batch, key_heads, blocks, head_dim].

    key: [batch, key_heads, time, head_dim]. The last block holds what is there: nothing is padded into a bound.
    """
    low, high = (_by_blocks(key, block_size, fill) for fill in (math.inf, -math.inf))
    return low.amin(3), high.amax(3)


def block_means(key: torch.Tensor, block_size: int) -> torch.Tensor:
    """The mean key of each block: [batch, key_heads, blocks, head_dim]. Half precision is summed in float32."""
    blocks = _by_blocks(key, block_size, 0.0).to(calls.wide(key.dtype))
    held = torch.full((blocks.shape[2],), float(block_size), dtype=blocks.dtype, device=key.device)
    if len(held):
        held[-1] = (key.shape[2] - 1) % block_size + 1
    return (blocks.sum(3) / held[:, None]).to(key.dtype)


def _by_blocks(key, block_size, fill):
    """[batch, key_heads, blocks, block_size, head_dim], the last block filled up."""
    calls.require_rank("batch, key_heads, time, head_dim", key=key)
    calls.require_count("block_size", block_size)
    blocks = -(-key.shape[2] // block_size)
    return functional.pad(key, (0, 0, 0, blocks * block_size - key.shape[2]), value=fill).unflatten(
        2, (blocks, block_size)
    )


def pooled(query: torch.Tensor, key_heads: int, shared: bool = True) -> torch.Tensor:
    """The query that chooses: the mean over the heads of a group (shared), or each head's own.

    query: [batch, heads, 1, head_dim]; returns [batch, lists, head_dim] with key_heads or heads lists.
    """
    query = query[:, :, 0]
    return query.unflatten(1, (key_heads, -1)).mean(2) if shared else query


def bound_scores_oracle(query, lowest, highest, *, scale, shared=True):
    """scale · Σ_c max(q_c lowest_c, q_c highest_c): no key of the block scores higher (eq. resa-bound; paper's eq. 4).

    Shapes as in `bound_scores`. At block size 1 it is the score of the key itself.
    """
    query = scale * pooled(query, lowest.shape[1], shared)[:, :, None]  # [batch, lists, 1, head_dim]
    repeats = query.shape[1] // lowest.shape[1]
    lowest, highest = lowest.repeat_interleave(repeats, 1), highest.repeat_interleave(repeats, 1)
    return torch.maximum(query * lowest, query * highest).sum(-1)


def bound_scores_torch(query, lowest, highest, *, scale, shared=True):
    """The same as two products: where q_c is positive the highest key counts, where it is negative the lowest.

    Half precision is computed in float32. A bound that is infinite would be multiplied by the 0 of the other sign, so
    scores that come out infinite or nan are computed again by the oracle's formula.
    """
    query, lowest, highest = (each.to(calls.wide(query.dtype)) for each in (query, lowest, highest))
    if torch.compiler.is_compiling():  # where no number is looked at
        return bound_scores_oracle(query, lowest, highest, scale=scale, shared=shared)
    chooser = scale * pooled(query, lowest.shape[1], shared)
    chooser = chooser.unflatten(1, (lowest.shape[1], -1))  # [batch, key_heads, lists a key head, head_dim]
    scores = chooser.clamp(min=0) @ highest.mT + chooser.clamp(max=0) @ lowest.mT
    if scores.device.type == "cpu" and not scores.isfinite().all():
        return bound_scores_oracle(query, lowest, highest, scale=scale, shared=shared)
    return scores.flatten(1, 2)


def mean_scores(
    query: torch.Tensor, mean: torch.Tensor, *, scale: float | None = None, shared: bool = True
) -> torch.Tensor:
    """scale · q · mean key of each block (MoBA's gate): [batch, lists, blocks]. No bound: a needle is averaged away.

    Shapes, and the dtype of the result, as in `bound_scores`.
    """
    query, mean = (each.to(calls.wide(query.dtype)) for each in (query, mean))
    query = calls.scale_of(scale, query.shape[-1]) * pooled(query, mean.shape[1], shared)
    return (query.unflatten(1, (mean.shape[1], -1)) @ mean.mT).flatten(1, 2)


def choose_blocks(scores: torch.Tensor, choice: Choice) -> torch.Tensor:
    """The blocks with the highest scores, the newest `choice.local` among them, in ascending order.

    scores: [batch, lists, blocks]; returns int64 [batch, lists, count]. Equal scores: the newer block is taken; a score
    of nan counts as infinite, for nothing is known of such a block.
    """
    calls.require_rank("batch, lists, blocks", scores=scores)
    blocks = scores.shape[-1]
    count = choice.count(blocks)
    if count == blocks:
        return torch.arange(blocks, device=scores.device).expand(*scores.shape[:2], -1)
    scores = scores.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
    scores[..., max(0, blocks - choice.local) :] = math.inf
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        best, places = scores.topk(count + 1)
        if (best[..., count - 1] > best[..., count]).all():  # no tie at the border
            return places[..., :count].sort().values
    # A stable sort of the turned row: of equal scores the newer block comes first.
    turned = scores.flip(-1).sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return (blocks - 1 - turned).sort().values


def oracle(query, key, value, blocks, *, block_size, scale):
    """Softmax attention over the keys of the chosen blocks and no others (eq. resa-attention). Returns a Part.

    blocks: [batch, lists, count], each block once, -1 for none. Of no block at all: output 0, log_sum_exp -inf.
    """
    heads, key_heads = query.shape[1], key.shape[1]
    key, value = key.repeat_interleave(heads // key_heads, 1), value.repeat_interleave(heads // key_heads, 1)
    blocks = blocks.repeat_interleave(heads // blocks.shape[1], 1)
    block_of = torch.arange(key.shape[2], device=key.device) // block_size
    seen = (blocks[..., None] == block_of).any(2)  # [batch, heads, key_time]
    scores = (scale * query @ key.mT).masked_fill(~seen[:, :, None], -math.inf)
    return part_of(scores, value.masked_fill(~seen[..., None], 0.0))  # a weight of 0 hides no infinite value


def gathered(query, key, value, blocks, *, block_size, scale):
    """The oracle by gathering: only rows of chosen blocks are touched. Half precision is computed in float32."""
    rows = blocks
    if block_size > 1:
        rows = (blocks[..., None] * block_size + torch.arange(block_size, device=blocks.device)).flatten(2)
    hidden = (rows < 0) | (rows >= key.shape[2])
    return near(query, *picked(rows.clamp(0, max(0, key.shape[2] - 1)), key, value), hidden, scale=scale)


def near(query, key, value, hidden, *, scale):
    """Attention over rows that are gathered already. key, value: [batch, lists, rows, ...]. Returns a Part.

    hidden: bool [batch, lists or 1, rows], which of them are none: what those hold does not reach the output.
    """
    wide = calls.wide(query.dtype)
    tile = scale * query[:, :, 0].to(wide).unflatten(1, (key.shape[1], -1))  # [batch, lists, heads per list, head_dim]
    scores = (tile @ key.to(wide).mT).masked_fill_(hidden[:, :, None], -math.inf)
    value = value.to(wide)
    part = part_of(scores, value)
    # Weights of 0 hide all values but infinite ones and nan, which show: only then are values set to 0, which costs.
    if torch.compiler.is_compiling() or query.device.type != "cpu" or not part.output.isfinite().all():
        part = part_of(scores, value.masked_fill(hidden[..., None], 0.0))
    return Part(part.output.flatten(1, 2)[:, :, None].to(query.dtype), part.log_sum_exp.flatten(1)[..., None])


def picked(rows, *tensors):
    """Rows [batch, lists, count] of each [batch, key_heads, time, size], lists being a multiple of key_heads.

    On a CPU all are picked from one view of the memory: `index_select` copies a row whole, in one call.
    """
    (batch, lists, count), heads, places = rows.shape, tensors[0].shape[1], {}
    items, rows = (
        torch.arange(batch, device=rows.device)[:, None, None],
        rows.reshape(batch, heads, lists // max(1, heads) * count),
    )
    differentiated = calls.carries_tangents() or any(each.requires_grad for each in tensors)
    if differentiated or torch.compiler.is_compiling() or rows.device.type != "cpu" or 0 in tensors[0].shape:
        each_head = torch.arange(heads, device=rows.device)[:, None]
        return [tensor[items, each_head, rows].view(batch, lists, count, tensor.shape[3]) for tensor in tensors]
    found = []
    for tensor in tensors:
        *strides, size_stride = tensor.stride()
        step = math.gcd(*strides) or 1
        of_item, of_head, of_row = (stride // step for stride in strides)
        if (of_item, of_head, of_row) not in places:
            first = items * of_item + torch.arange(heads)[:, None] * of_head
            places[of_item, of_head, of_row] = (rows * of_row + first).flatten()
        last = (batch - 1) * of_item + (heads - 1) * of_head + (tensor.shape[2] - 1) * of_row
        view = tensor.as_strided((last + 1, tensor.shape[3]), (step, size_stride))
        found.append(view.index_select(0, places[of_item, of_head, of_row]).view(batch, lists, count, tensor.shape[3]))
    return found
