"""One index for all layers that read one cache (CLSA): a lightning indexer scores every token, few rows are read.

A score is a sum of ReLUs, one an index head, against one index key a token. The `top_k` best tokens are chosen once,
and every layer of the cross-decoder attends to those rows alone. Tensors are [batch, heads, time, head_dim].
Sources: "You Only Index Once" (arXiv 2606.06467), of which we know the abstract and summaries; the scoring function is
that of DeepSeek-V3.2-Exp (DSA), whose report and code are public. What follows from neither is a RECONSTRUCTION.
"""

import math

import torch

from effattn_core.attention import Part
from kernels.runtime import require_kernels


def scores_oracle(query, key, weight):
    """I_ts = Σ_h weight_th · ReLU(query_th · key_s) / sqrt(index_heads · index_dim)     (eq. clsa-score; DSA's report)

    query: [batch, index_heads, time, index_dim]   key: [batch, 1, key_time, index_dim], one a token for all heads
    weight: [batch, index_heads, time], of either sign.   Returns [batch, time, key_time]; nothing is masked.
    """
    heads, index_dim = query.shape[1], query.shape[3]
    agreement = (query @ key.mT).clamp(min=0)  # [batch, index_heads, time, key_time]
    return (weight[..., None] * agreement).sum(1) * (heads * index_dim) ** -0.5


def hide_future(scores):
    """-inf where a token comes after the query. scores: [batch, time, key_time], its queries the last of the keys."""
    time, key_time = scores.shape[1:]
    seen = torch.ones(time, key_time, dtype=torch.bool, device=scores.device).tril(key_time - time)
    return scores.masked_fill(~seen, -math.inf)


def choose_rows(scores, top_k, local=1):
    """The `top_k` tokens with the highest scores, the newest `local` of those that a query sees among them.

    scores: [batch, time, key_time], -inf for what a query does not see. Returns int64 [batch, time, top_k] in ascending
    order, -1 at the end where a query sees fewer. Equal scores: the newer token is taken. Forcing the newest is a
    RECONSTRUCTION. Raises ValueError for top_k or local below 0, or local above top_k.
    """
    _check_count(top_k, local)
    batch, time, key_time = scores.shape
    newest = (scores > -math.inf).sum(-1, keepdim=True)  # seen tokens are the first ones
    place = torch.arange(key_time, device=scores.device)
    forced = (place < newest) & (place >= newest - local)
    # A stable sort of the turned row: of equal scores the newer token comes first.
    order = scores.masked_fill(forced, math.inf).flip(-1).sort(dim=-1, descending=True, stable=True).indices
    rows = (key_time - 1 - order)[..., :top_k]
    rows = rows.masked_fill(rows >= newest, key_time).sort(-1).values
    rows = torch.where(rows == key_time, -1, rows)
    missing = rows.new_full((batch, time, top_k - rows.shape[2]), -1)
    return torch.cat([rows, missing], 2)


def mask_of(rows, key_time):
    """Which tokens each query reads: bool [batch, time, key_time], from rows [batch, time, count], -1 for none."""
    mask = torch.zeros(*rows.shape[:2], key_time + 1, dtype=torch.bool, device=rows.device)
    return mask.scatter_(2, torch.where(rows < 0, key_time, rows).long(), True)[..., :key_time]


def oracle(query, key, value, rows, *, scale):
    """Softmax attention over the chosen rows and no others, by hiding all others (eq. clsa-attention). Returns a Part.

    query: [batch, heads, 1, head_dim]; key, value: [batch, key_heads, key_time, ...]; rows: [batch, count], each row
    once, -1 for none, the same for all heads. Of no row at all: output 0, log_sum_exp -inf.
    """
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    seen = mask_of(rows[:, None], key.shape[2])[:, None]  # [batch, 1, 1, key_time]
    scores = (scale * query @ key.mT).masked_fill(~seen, -math.inf)
    log_sum_exp = scores.logsumexp(-1)
    weight = torch.exp(scores - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0)[..., None])
    return Part(weight @ value, log_sum_exp)


def gather_torch(tensor, rows):
    """Rows [batch, count] of [batch, heads, time, size], copied to [batch, heads, count, size]; zeros for -1."""
    near = tensor.new_empty(*tensor.shape[:2], rows.shape[1], tensor.shape[3])
    for number, picked in enumerate(rows):
        torch.index_select(tensor[number], 1, picked.clamp(min=0), out=near[number])
    return near.masked_fill_((rows < 0)[:, None, :, None], 0.0) if (rows < 0).any() else near


def gathered(query, key, value, rows, *, scale):
    """The oracle by gathering: only chosen rows are touched. Half precision is computed in float32."""
    return near_torch(query, gather_torch(key, rows), gather_torch(value, rows), rows, scale=scale)


def near_torch(query, key, value, rows, *, scale):
    """Attention over rows that are gathered already: key, value [batch, key_heads, count, ...]; rows < 0 are none."""
    wide = torch.promote_types(query.dtype, torch.float32)
    tile = scale * query[:, :, 0].to(wide).unflatten(1, (key.shape[1], -1))  # [batch, key_heads, group, head_dim]
    hidden = torch.zeros(rows.shape, dtype=wide, device=key.device).masked_fill_(rows < 0, -math.inf)
    scores = tile @ key.to(wide).mT + hidden[:, None, None]
    log_sum_exp = scores.logsumexp(-1, keepdim=True)
    weight = torch.exp(scores - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0))
    output, log_sum_exp = (weight @ value.to(wide)).flatten(1, 2), log_sum_exp.flatten(1)
    return Part(output[:, :, None].to(query.dtype), log_sum_exp[..., None])


def select_torch(query, key, weight, top_k, local):
    """(rows, their scores) of one query each: [batch, top_k]; -1 and -inf where there are fewer, inf where forced."""
    wide = torch.promote_types(query.dtype, torch.float32)
    scores = scores_oracle(query.to(wide), key.to(wide), weight.to(wide))
    rows = choose_rows(scores, top_k, local)[:, 0]
    found = scores[:, 0].gather(1, rows.clamp(min=0)) if key.shape[2] else scores.new_empty(rows.shape)
    found = found.masked_fill(rows >= key.shape[2] - local, math.inf)
    return rows.int(), found.masked_fill(rows < 0, -math.inf)


def _select_on_cpu(query, key, weight, top_k, local, implementation):
    if implementation == "triton":
        return run_select(query, key, weight, top_k, local, implementation)
    return select_torch(query, key, weight, top_k, local)


def _gather_on_cpu(key, value, rows, implementation):
    if implementation == "triton":
        return run_gather(key, value, rows, implementation)
    return gather_torch(key, rows), gather_torch(value, rows)


def _attention_on_cpu(query, key, value, rows, gathered_already, scale, implementation):
    if implementation == "triton":
        return run_attention(query, key, value, rows, gathered_already, scale, implementation)
    form = near_torch if gathered_already else gathered
    return tuple(form(query, key, value, rows, scale=scale))


try:  # where triton is not installed the forms in PyTorch serve alone
    from kernels.indexing import HEAD_DIMS, INDEX_DIMS, MOST
    from kernels.indexing.operators import (
        index_attention,
        index_gather,
        index_select,
        run_attention,
        run_gather,
        run_select,
    )
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    index_attention = index_gather = index_select = None
else:
    index_select.register_kernel("cpu")(_select_on_cpu)
    index_gather.register_kernel("cpu")(_gather_on_cpu)
    index_attention.register_kernel("cpu")(_attention_on_cpu)


def select_rows(query, key, weight, *, top_k, local=1, implementation=None):
    """Score every token for one query and keep the best: (rows, scores), [batch, top_k] int32 and float32 or wider.

    query: [batch, index_heads, 1, index_dim]; key: [batch, 1, key_time, index_dim]; weight: [batch, index_heads, 1].
    rows ascend, -1 at the end where there are fewer tokens; ties and `local` as in `choose_rows`; the scores of rows
    that are forced are inf.
    implementation: "oracle" and "torch" store the row of scores, "triton" never does; None lets the device pick.
    Raises ValueError for shapes that do not fit, RuntimeError for "triton" where no kernel runs.
    """
    _check_implementation(implementation)
    _check_count(top_k, local)
    heads, index_dim = query.shape[1], query.shape[-1]
    if query.ndim != 4 or query.shape[2] != 1 or weight.shape != query.shape[:3]:
        raise ValueError(
            "query must be [batch, index_heads, 1, index_dim] and weight [batch, index_heads, 1]; "
            f"got {tuple(query.shape)} and {tuple(weight.shape)}."
        )
    if key.ndim != 4 or (key.shape[0], key.shape[1], key.shape[3]) != (query.shape[0], 1, index_dim):
        raise ValueError(
            f"key must be [{query.shape[0]}, 1, key_time, {index_dim}], one index key a token; got {tuple(key.shape)}."
        )
    fit = index_dim in INDEX_DIMS and heads <= 64 and top_k <= MOST if index_select is not None else False
    if not _to_operator(query, fit, implementation):
        return select_torch(query, key, weight, top_k, local)
    return index_select(query, key, weight, top_k, local, implementation or "device")


def gather_rows(key, value, rows, *, implementation=None):
    """The chosen rows of keys and values, copied once for all layers: ([batch, key_heads, count, ...], the same).

    rows: [batch, count] integers, -1 gives zeros. A layer then calls `row_attention(..., gathered_already=True)`.
    """
    _check_implementation(implementation)
    _check_rows(key, value, rows)
    if not _to_operator(key, _fits(key, value), implementation):
        return gather_torch(key, rows), gather_torch(value, rows)
    return index_gather(key, value, rows.int(), implementation or "device")


def row_attention(query, key, value, rows, *, gathered_already=False, scale=None, implementation=None):
    """Attention of one query a head over the chosen rows of a cache. Returns a Part, as `attention_part` does.

    query: [batch, heads, 1, head_dim]; key, value: [batch, key_heads, key_time, ...], or, if gathered_already, what
    `gather_rows` made; rows: integers [batch, count], for all heads, in any order, each row once, -1 for none.
    Raises ValueError for shapes or dtypes that do not fit, RuntimeError for "triton" where no kernel runs.
    """
    _check_implementation(implementation)
    _check_rows(key, value, rows)
    if query.ndim != 4 or query.shape[2] != 1 or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query must be [batch, heads, 1, head_dim] and fit the keys; got {tuple(query.shape)} and "
            f"{tuple(key.shape)}."
        )
    if key.shape[1] == 0 or query.shape[1] % key.shape[1] or query.dtype != key.dtype:
        raise ValueError(
            f"key heads must divide query heads, of one dtype; got {key.shape[1]} {key.dtype} key heads and "
            f"{query.shape[1]} {query.dtype} query heads."
        )
    if gathered_already and rows.shape[1] != key.shape[2]:
        raise ValueError(f"gathered keys have {key.shape[2]} rows, the list {rows.shape[1]}: they must agree.")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    if implementation == "oracle":
        own = torch.where(rows < 0, -1, torch.arange(rows.shape[1], device=rows.device))
        return oracle(query, key, value, own if gathered_already else rows, scale=scale)
    if not _to_operator(query, _fits(query, value), implementation):
        return (near_torch if gathered_already else gathered)(query, key, value, rows, scale=scale)
    return Part(*index_attention(query, key, value, rows.int(), gathered_already, scale, implementation or "device"))


def _fits(key, value):
    return index_select is not None and {key.shape[3], value.shape[3]} <= set(HEAD_DIMS)


def _to_operator(tensor, fit, implementation):
    """Whether a call goes to the operator, which picks by device; a GPU call only with shapes that kernels take."""
    if implementation == "triton":
        require_kernels()
        return True
    if index_select is None or implementation == "oracle":
        return False
    cuda = tensor.device.type == "cuda" and implementation is None and tensor.dtype != torch.float64
    return tensor.device.type == "cpu" or (cuda and fit)


def _check_implementation(implementation):
    if implementation not in (None, "oracle", "torch", "triton"):
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")


def _check_count(top_k, local):
    if top_k < 1 or not 0 <= local <= top_k:
        raise ValueError(f"top_k must be at least 1 and local in [0, top_k]; they are {top_k} and {local}.")


def _check_rows(key, value, rows):
    if key.ndim != 4 or key.shape[:3] != value.shape[:3] or key.dtype != value.dtype:
        raise ValueError(
            f"key and value must agree; got {tuple(key.shape)} {key.dtype} and {tuple(value.shape)} {value.dtype}."
        )
    if rows.ndim != 2 or rows.shape[0] != key.shape[0] or rows.is_floating_point():
        raise ValueError(f"rows must be integers [{key.shape[0]}, count]; got {tuple(rows.shape)} {rows.dtype}.")
