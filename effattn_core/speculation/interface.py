"""The calls that a kernel answers: a head over some of the words, and the attention of a tree; and their checks."""

import math
from typing import NamedTuple

import torch

from effattn_core import calls
from effattn_core.attention import Part
from effattn_core.attention.forms import part_of
from kernels.table import DIMS, MOST

operators = calls.operators("speculation")


class Candidates(NamedTuple):
    """The likeliest words of each row. logits: [count, top_k], descending; words: int64 [count, top_k]; log_sum_exp:
    [count], natural, over all the words that were scored: log-probabilities are logits - log_sum_exp[:, None]."""

    logits: torch.Tensor
    words: torch.Tensor
    log_sum_exp: torch.Tensor


def subset_head_plain(hidden, weight, ids, *, top_k):
    """The logits hidden · weight[ids]ᵀ, sorted: obvious on purpose, the kernel answers to it (eq. frspec-head)."""
    logits = (hidden @ weight[ids].mT).to(calls.wide(hidden.dtype))
    ranked = logits.masked_fill(logits.isnan(), -math.inf).sort(dim=-1, descending=True, stable=True)
    return Candidates(ranked.values[:, :top_k], ids[ranked.indices[:, :top_k]], logits.logsumexp(-1))


def subset_head(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    ids: torch.Tensor,
    *,
    top_k: int,
    implementation: str | None = None,
) -> Candidates:
    """The `top_k` likeliest of the words `ids` after each row, and the log-sum-exp over them (eq. frspec-head).

    hidden: [count, width]; weight: [words, width], the head of the whole vocabulary; ids: int64 [kept], each once, as
    `Subset` has them. Equal logits come in the order of `ids`; a logit that is nan counts as -inf in the list, and its
    row's log-sum-exp is nan.
    implementation: "oracle" (in float64) and "torch" gather the rows and store all logits, "triton" neither; None: the
    kernel on a GPU where it takes the sizes, else "torch".
    Raises ValueError for shapes, dtypes, devices, ids or top_k that do not fit, RuntimeError for "triton" where no
    kernel runs.
    """
    calls.require_rank("count, width", hidden=hidden)
    calls.require_rank("words, width", weight=weight)
    calls.require_rank("kept", ids=ids)
    calls.require_alike(hidden=hidden, weight=weight)
    calls.require_device(hidden=hidden, ids=ids)
    calls.require_count("top_k", top_k)
    if hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden and weight must share a width; got {tuple(hidden.shape)} and {tuple(weight.shape)}: "
            "this is not the head of that model."
        )
    calls.require_sizes(width=hidden.shape[1])
    if ids.dtype != torch.int64 or ids.shape[0] < top_k:
        raise ValueError(f"ids must be int64 and at least top_k = {top_k}; got {ids.shape[0]} of {ids.dtype}.")
    if ids.device.type == "cpu" and not torch.compiler.is_compiling() and not _within(ids, weight.shape[0]):
        raise ValueError(
            f"ids must lie in 0..{weight.shape[0] - 1}; they go from {ids.min()} to {ids.max()}: the drafter has "
            "another vocabulary."
        )
    misfit = "" if top_k <= MOST else f"the kernel keeps at most {MOST} words; top_k is {top_k}"
    chosen = calls.choose(implementation, hidden.device, hidden.dtype, misfit)
    if chosen == "triton":
        return Candidates(*operators.subset_head(hidden, weight, ids, top_k))
    if chosen == "torch":
        return subset_head_plain(hidden, weight, ids, top_k=top_k)
    found, wide = calls.exactly(subset_head_plain, hidden, weight, ids, top_k=top_k), calls.wide(hidden.dtype)
    return Candidates(found.logits.to(wide), found.words, found.log_sum_exp.to(wide))


def _within(ids, words):
    return bool(((ids >= 0) & (ids < words)).all())


def tree_visible(masks, key_time):
    """Which keys each row of a tree sees: bool [batch, rows, key_time], the text and, by bit j of its mask, row j.

    masks: int64 [batch, rows], as `packed` makes them; the tree's rows are the last of key_time.
    """
    bits = (masks[..., None] >> torch.arange(masks.shape[1], device=masks.device)) & 1
    text = bits.new_ones(*masks.shape, key_time - masks.shape[1])
    return torch.cat([text, bits], -1).bool()


def tree_oracle(query, key, value, masks, *, scale):
    """softmax(scale · query keyᵀ, over the text and a row's own ancestors) value: a Part (eq. tree-mask)."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    seen = tree_visible(masks, key.shape[2])[:, None]
    return part_of((scale * query @ key.mT).masked_fill(~seen, -math.inf), value)


def tree_torch(query, key, value, masks, *, scale):
    """`tree_oracle` with the heads of a group side by side: a row of the cache is read once for all of them."""
    key_heads, group = key.shape[1], query.shape[1] // key.shape[1]
    folded = query.unflatten(1, (key_heads, group)).flatten(2, 3)
    seen = tree_visible(masks, key.shape[2]).repeat(1, group, 1)[:, None]
    part = part_of((scale * folded @ key.mT).masked_fill(~seen, -math.inf).to(calls.wide(query.dtype)), value.to(
        calls.wide(value.dtype)))  # fmt: skip
    heads = [each.unflatten(2, (group, -1)).flatten(1, 2) for each in part]
    return Part(heads[0].to(query.dtype), heads[1])


def tree_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    masks: torch.Tensor,
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Part:
    """Attention of a draft tree in one pass: each row sees the whole text and, of the tree, its ancestors and itself.

    query: [batch, heads, rows, head_dim]; key: [batch, key_heads, key_time, head_dim] and value, whose last `rows` are
    the tree's; masks: int64 [batch, rows], bit j of row i says whether i sees row j, as `packed` makes them. Returns a
    Part. scale, implementation: as in `attention`.
    Raises ValueError for shapes, dtypes, devices or more than 64 rows, RuntimeError for "triton" where no kernel runs.
    """
    calls.require_rank("batch, heads, rows, head_dim", query=query)
    calls.require_rank("batch, key_heads, key_time, head_dim or value_dim", key=key, value=value)
    calls.require_rank("batch, rows", masks=masks)
    calls.require_alike(query=query, key=key, value=value)
    calls.require_device(query=query, masks=masks)
    if key.shape[:3] != value.shape[:3] or (query.shape[0], query.shape[3]) != (key.shape[0], key.shape[3]):
        raise ValueError(
            f"query, key and value must agree; got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}."
        )
    calls.require_heads(query, key)
    calls.require_sizes(head_dim=query.shape[3], value_dim=value.shape[3])
    rows = query.shape[2]
    if masks.dtype != torch.int64 or tuple(masks.shape) != (query.shape[0], rows):
        raise ValueError(f"masks must be int64 [{query.shape[0]}, {rows}]; got {tuple(masks.shape)} {masks.dtype}.")
    if rows > min(MOST, key.shape[2]):
        raise ValueError(f"a tree has at most {MOST} rows, all in the cache; got {rows} and {key.shape[2]} keys.")
    scale = calls.scale_of(scale, query.shape[3])
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=value.shape[3])
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if chosen == "triton":
        return Part(*operators.tree_attention(query, key, value, masks, scale))
    if chosen == "torch":
        return tree_torch(query, key, value, masks, scale=scale)
    found = calls.exactly(tree_oracle, query, key, value, masks, scale=scale)
    return Part(found.output.to(query.dtype), found.log_sum_exp.to(calls.wide(query.dtype)))
