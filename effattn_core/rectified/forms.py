"""Rectified sparse attention (ReSA): which blocks of the cache a decoded token reads, and attention over those alone.

Tensors are [batch, heads, time, head_dim]; keys and values may have fewer heads, as in `effattn_core.attention`.
A block is `block_size` tokens in a row, the last one may be shorter. Source: Sun et al. 2025, arXiv 2506.04108.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.attention import Part, attention
from kernels.runtime import require_kernels

GATES = ("bound", "mean")


@dataclass(frozen=True)
class Choice:
    """How the blocks that a token reads are chosen. The defaults are those of the released code.

    active: share of all blocks; least: blocks read at least; local: newest blocks, always read.
    shared: one list for all query heads of a key head, chosen by their mean query; else a list a query head (Quest).
    gate: "bound", the most that a key of the block could score, or "mean", the score of its mean key (MoBA).
    """

    block_size: int = 16
    active: float = 0.1
    least: int = 16
    local: int = 1
    shared: bool = True
    gate: str = "bound"

    def __post_init__(self):
        if self.block_size < 1 or self.least < 1 or self.local < 1:
            given = f"{self.block_size}, {self.least} and {self.local}"
            raise ValueError(f"block_size, least and local must be at least 1; they are {given}.")
        if not 0 <= self.active <= 1:
            raise ValueError(f"active is a share of the blocks, in [0, 1]; it is {self.active}.")
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}; it is {self.gate!r}.")

    def count(self, blocks):
        """How many of `blocks` blocks are read: max(ceil(active · blocks), least, local), and no more than there are.

        Rounded to nine digits first, so that a tenth of thirty is three and not four.
        """
        return min(blocks, max(math.ceil(round(self.active * blocks, 9)), self.least, self.local))


def block_bounds(key, block_size):
    """(lowest, highest): elementwise, over the keys of each block. Each [batch, key_heads, blocks, head_dim].

    key: [batch, key_heads, time, head_dim]. The last block holds what is there: nothing is padded into a bound.
    """
    low, high = (_by_blocks(key, block_size, fill) for fill in (math.inf, -math.inf))
    return low.amin(3), high.amax(3)


def block_means(key, block_size):
    """The mean key of each block: [batch, key_heads, blocks, head_dim]."""
    blocks = _by_blocks(key, block_size, 0.0)
    held = torch.full((blocks.shape[2],), float(block_size), dtype=key.dtype, device=key.device)
    if len(held):
        held[-1] = (key.shape[2] - 1) % block_size + 1
    return blocks.sum(3) / held[:, None]


def _by_blocks(key, block_size, fill):
    """[batch, key_heads, blocks, block_size, head_dim], the last block filled up."""
    blocks = -(-key.shape[2] // block_size)
    return functional.pad(key, (0, 0, 0, blocks * block_size - key.shape[2]), value=fill).unflatten(
        2, (blocks, block_size)
    )


def pooled(query, key_heads, shared=True):
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
    """The same as two products: where q_c is positive the highest key counts, where it is negative the lowest."""
    wide = torch.promote_types(query.dtype, torch.float32)
    query = scale * pooled(query.to(wide), lowest.shape[1], shared)
    query = query.unflatten(1, (lowest.shape[1], -1))  # [batch, key_heads, lists a key head, head_dim]
    scores = query.clamp(min=0) @ highest.to(wide).mT + query.clamp(max=0) @ lowest.to(wide).mT
    return scores.flatten(1, 2)


def mean_scores(query, mean, *, scale, shared=True):
    """scale · q · mean key of each block (MoBA's gate): [batch, lists, blocks]. No bound: a needle is averaged away."""
    query = scale * pooled(query, mean.shape[1], shared).unflatten(1, (mean.shape[1], -1))
    return (query @ mean.mT).flatten(1, 2)


def choose_blocks(scores, choice):
    """The blocks with the highest scores, the newest `choice.local` among them, in ascending order.

    scores: [batch, lists, blocks]; returns int64 [batch, lists, count].
    """
    blocks = scores.shape[-1]
    scores = scores.clone()
    scores[..., max(0, blocks - choice.local) :] = math.inf
    return scores.topk(choice.count(blocks), sorted=False).indices.sort().values


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
    log_sum_exp = scores.logsumexp(-1)
    weight = torch.exp(scores - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0)[..., None])
    return Part(weight @ value, log_sum_exp)


def gathered(query, key, value, blocks, *, block_size, scale):
    """The oracle by gathering: only rows of chosen blocks are touched. Half precision is computed in float32."""
    wide, lists = torch.promote_types(query.dtype, torch.float32), blocks.shape[1]
    rows = (blocks[..., None] * block_size + torch.arange(block_size, device=blocks.device)).flatten(2)
    inside = (rows >= 0) & (rows < key.shape[2])
    rows = rows.clamp(0, key.shape[2] - 1)
    near_key, near_value = (_picked(each, rows).to(wide) for each in (key, value))
    tile = scale * query[:, :, 0].to(wide).unflatten(1, (lists, -1))  # [batch, lists, heads a list, head_dim]
    hidden = torch.zeros(rows.shape, dtype=wide, device=key.device).masked_fill_(~inside, -math.inf)
    scores = tile @ near_key.mT + hidden[:, :, None]
    log_sum_exp = scores.logsumexp(-1, keepdim=True)
    weight = torch.exp(scores - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0))
    output, log_sum_exp = (weight @ near_value).flatten(1, 2), log_sum_exp.flatten(1)
    return Part(output[:, :, None].to(query.dtype), log_sum_exp[..., None])


def _picked(tensor, rows):
    """Rows [batch, lists, picked] of [batch, key_heads, time, size]: index_select copies rows whole."""
    shared, near = rows.shape[1] // tensor.shape[1], tensor.new_empty(*rows.shape, tensor.shape[3])
    for batch, lists in enumerate(rows):
        for number, picked in enumerate(lists):
            torch.index_select(tensor[batch, number // shared], 0, picked, out=near[batch, number])
    return near


def _scores_on_cpu(query, lowest, highest, scale, shared, implementation):
    if implementation == "triton":
        return run_scores(query, lowest, highest, scale, shared, implementation)
    return bound_scores_torch(query, lowest, highest, scale=scale, shared=shared)


def _attention_on_cpu(query, key, value, blocks, block_size, scale, implementation):
    if implementation == "triton":
        return run_attention(query, key, value, blocks, block_size, scale, implementation)
    return tuple(gathered(query, key, value, blocks, block_size=block_size, scale=scale))


try:  # where triton is not installed the forms in PyTorch serve alone
    from kernels.rectified import HEAD_DIMS
    from kernels.rectified.operators import block_attention_forward, block_scores_forward, run_attention, run_scores
    from kernels.rectified.rectify import launch_rectify
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    block_scores_forward = block_attention_forward = None
else:
    block_scores_forward.register_kernel("cpu")(_scores_on_cpu)
    block_attention_forward.register_kernel("cpu")(_attention_on_cpu)


def bound_scores(query, lowest, highest, *, scale=None, shared=True, implementation=None):
    """How high a key of each block could score at most. query: [batch, heads, 1, head_dim], of the token decoded.

    lowest, highest: [batch, key_heads, blocks, head_dim], from `block_bounds`. Returns [batch, lists, blocks] in
    float32 or wider, key_heads lists if `shared` and heads lists else. scale, implementation: as in `attention`.
    Raises ValueError for shapes or dtypes that do not fit, RuntimeError for "triton" where no kernel runs.
    """
    _check_query(query, lowest, implementation)
    if lowest.shape != highest.shape or lowest.dtype != highest.dtype or lowest.dtype != query.dtype:
        raise ValueError(
            f"lowest and highest must have one shape, and the query's dtype; got {tuple(lowest.shape)} {lowest.dtype} "
            f"and {tuple(highest.shape)} {highest.dtype} for a query in {query.dtype}."
        )
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    if implementation == "oracle":
        return bound_scores_oracle(query, lowest, highest, scale=scale, shared=shared)
    if not _to_operator(query, lowest, implementation):
        return bound_scores_torch(query, lowest, highest, scale=scale, shared=shared)
    return block_scores_forward(query, lowest, highest, scale, shared, implementation or "device")


def block_attention(query, key, value, blocks, *, block_size, scale=None, implementation=None):
    """Attention of one query a head over the chosen blocks of a cache. Returns a Part, as `attention_part` does.

    query: [batch, heads, 1, head_dim]; key, value: [batch, key_heads, key_time, ...]; blocks: integers [batch, lists,
    count], lists being key_heads (shared by a group) or heads, in any order, each block once, -1 for none.
    Raises ValueError for shapes or dtypes that do not fit, RuntimeError for "triton" where no kernel runs.
    """
    _check_query(query, key, implementation)
    if key.shape[:3] != value.shape[:3] or not query.dtype == key.dtype == value.dtype:
        raise ValueError(
            f"key and value must agree and share the query's dtype; got {tuple(key.shape)} {key.dtype} and "
            f"{tuple(value.shape)} {value.dtype} for a query in {query.dtype}."
        )
    if blocks.ndim != 3 or blocks.shape[0] != query.shape[0] or blocks.shape[1] not in (key.shape[1], query.shape[1]):
        raise ValueError(
            f"blocks must be [{query.shape[0]}, {key.shape[1]} or {query.shape[1]}, count]; "
            f"its shape is {tuple(blocks.shape)}."
        )
    if blocks.is_floating_point() or block_size < 1:
        raise ValueError(f"blocks must be integers, block_size at least 1; got {blocks.dtype} and {block_size}.")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    if implementation == "oracle":
        return oracle(query, key, value, blocks, block_size=block_size, scale=scale)
    if not _to_operator(query, value, implementation):
        return gathered(query, key, value, blocks, block_size=block_size, scale=scale)
    return Part(*block_attention_forward(query, key, value, blocks, block_size, scale, implementation or "device"))


def dense_pass(query, key, value, *, implementation=None):
    """Causal attention of the newest tokens over the whole cache: what rectification runs. As `attention` returns it.

    On a GPU, or for "triton", all tokens and heads that share a key head ride in one tile, so that a row of the cache
    is read once for them; in PyTorch `attention` does that already. Shapes and errors as there.
    """
    few = query.shape[2] * query.shape[1] // max(1, key.shape[1]) <= 512
    packed = implementation == "triton" or (implementation is None and query.device.type == "cuda" and few)
    if packed and block_attention_forward is None:
        require_kernels()
    if packed and _fits(query, value, implementation):
        return launch_rectify(query, key, value, query.shape[-1] ** -0.5)[0]
    return attention(query, key, value, implementation=implementation)


def _fits(query, other, implementation):
    known = {query.shape[3], other.shape[3]} <= set(HEAD_DIMS) and query.dtype != torch.float64
    return implementation == "triton" or known


def _to_operator(query, other, implementation):
    """Whether a call goes to the operator, which picks by device; a GPU call only with shapes that kernels take."""
    if implementation == "triton" and block_attention_forward is None:
        require_kernels()
    if block_attention_forward is None:
        return False
    return query.device.type == "cpu" or (implementation != "torch" and _fits(query, other, implementation))


def _check_query(query, key, implementation):
    if implementation not in (None, "oracle", "torch", "triton"):
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")
    if query.ndim != 4 or query.shape[2] != 1:
        raise ValueError(f"query must be [batch, heads, 1, head_dim], one token; its shape is {tuple(query.shape)}.")
    if key.ndim != 4 or key.shape[0] != query.shape[0] or key.shape[3] != query.shape[3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)} for the query and {tuple(key.shape)}.")
    if key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key heads must divide query heads; got {key.shape[1]} key heads, {query.shape[1]} query heads."
        )
