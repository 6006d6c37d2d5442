"""One index for all layers that read one cache (CLSA): a lightning indexer scores every token, few rows are read.

A score is a sum of ReLUs, one per index head, against one index key per token. The `top_k` best tokens are chosen once,
and every layer of the cross-decoder attends to those rows alone. Tensors are [batch, heads, time, head_dim].
Sources: the abstract of "You Only Index Once" (arXiv 2606.06467), whose sections were not read; the scoring function is
that of DeepSeek-V3.2-Exp (DSA), whose report and code are public. What follows from neither is a RECONSTRUCTION.
"""

import math

import torch

from effattn_core import calls, rectified


def scores_oracle(query, key, weight):
    """I_ts = Σ_h weight_th · ReLU(query_th · key_s) / sqrt(index_heads · index_dim)     (eq. clsa-score; DSA's report)

    query: [batch, index_heads, time, index_dim]   key: [batch, 1, key_time, index_dim], one per token for all heads
    weight: [batch, index_heads, time], of either sign.   Returns [batch, time, key_time]; nothing is masked.
    """
    heads, index_dim = query.shape[1], query.shape[3]
    agreement = (query @ key.mT).clamp(min=0)  # [batch, index_heads, time, key_time]
    return (weight[..., None] * agreement).sum(1) * (heads * index_dim) ** -0.5


def hide_future(scores: torch.Tensor) -> torch.Tensor:
    """-inf where a token comes after the query. scores: [batch, time, key_time], its queries the last of the keys."""
    time, key_time = scores.shape[1:]
    seen = torch.ones(time, key_time, dtype=torch.bool, device=scores.device).tril(key_time - time)
    return scores.masked_fill(~seen, -math.inf)


def choose_rows(scores: torch.Tensor, top_k: int, local: int = 1) -> torch.Tensor:
    """The `top_k` tokens with the highest scores, the newest `local` of those that a query sees among them.

    scores: [batch, time, key_time], -inf for what a query does not see, which comes after what it sees. Returns int64
    [batch, time, top_k] in ascending order, -1 at the end where a query sees fewer. Equal scores: the newer token is
    taken; a score of nan comes last. Forcing the newest is a RECONSTRUCTION. Raises ValueError for top_k or local below
    0, or local above top_k.
    """
    require_counts(top_k, local)
    calls.require_rank("batch, time, key_time", scores=scores)
    seen = (scores != -math.inf).sum(-1, keepdim=True)
    least = torch.finfo(scores.dtype).min if scores.is_floating_point() else 0
    return best_rows(scores.nan_to_num(nan=least, posinf=math.inf, neginf=-math.inf), seen, top_k, local)


def best_rows(scores, seen, top_k, local):
    """`choose_rows` of the first `seen` tokens, a number or int64 [batch, time, 1]."""
    batch, time, key_time = scores.shape
    place = torch.arange(key_time, device=scores.device)
    forced = (place < seen) & (place >= seen - local)
    # A stable sort of the turned row: of equal scores the newer token comes first.
    order = scores.masked_fill(forced, math.inf).flip(-1).sort(dim=-1, descending=True, stable=True).indices
    rows = (key_time - 1 - order)[..., :top_k]
    rows = rows.masked_fill(rows >= seen, key_time).sort(-1).values
    rows = torch.where(rows == key_time, -1, rows)
    missing = rows.new_full((batch, time, top_k - rows.shape[2]), -1)
    return torch.cat([rows, missing], 2)


def require_counts(top_k: int, local: int) -> None:
    """Raise ValueError unless 1 <= top_k and 0 <= local <= top_k, whole numbers."""
    calls.require_count("top_k", top_k)
    calls.require_count("local", local, 0)
    if local > top_k:
        raise ValueError(f"local must be at most top_k; they are {local} and {top_k}.")


def mask_of(rows: torch.Tensor, key_time: int) -> torch.Tensor:
    """Which tokens each query reads: bool [batch, time, key_time], from rows [batch, time, count], -1 for none."""
    mask = torch.zeros(*rows.shape[:2], key_time + 1, dtype=torch.bool, device=rows.device)
    return mask.scatter_(2, torch.where(rows < 0, key_time, rows).long(), True)[..., :key_time]


def oracle(query, key, value, rows, *, scale):
    """Softmax attention over the chosen rows and no others (eq. clsa-attention): a row is a block of one token.

    query: [batch, heads, 1, head_dim]; key, value: [batch, key_heads, key_time, ...]; rows: [batch, count], each row
    once, -1 for none, the same for all heads. Returns a Part; of no row at all: output 0, log_sum_exp -inf.
    """
    return rectified.oracle(query, key, value, rows[:, None], block_size=1, scale=scale)


def gathered_rows(rows, *tensors):
    """Rows [batch, count] of each [batch, heads, time, size], as [batch, heads, count, size]; not to be read for -1."""
    rows = rows.clamp(0, max(0, tensors[0].shape[2] - 1))[:, None].expand(-1, tensors[0].shape[1], -1)
    return rectified.picked(rows, *tensors)


def gather_torch(rows, *tensors):
    """`gathered_rows`, zeros for -1 and for a row that is not there."""
    none = ((rows < 0) | (rows >= tensors[0].shape[2]))[:, None, :, None]
    found = gathered_rows(rows, *tensors)
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or none.any():
        return tuple(each.masked_fill(none, 0.0) for each in found)
    return tuple(found)


def gathered(query, key, value, rows, *, scale):
    """The oracle by gathering: only chosen rows are touched. Half precision is computed in float32."""
    hidden = ((rows < 0) | (rows >= key.shape[2]))[:, None]
    return rectified.near(query, *gathered_rows(rows, key, value), hidden, scale=scale)


def near_torch(query, key, value, rows, *, scale):
    """Attention over rows that are gathered already: key, value [batch, key_heads, count, ...]; rows < 0 are none."""
    return rectified.near(query, key, value, (rows < 0)[:, None], scale=scale)


def select_torch(query, key, weight, top_k, local):
    """(rows, their scores) of one query each: [batch, top_k]; -1 and -inf where there are fewer, inf where forced."""
    key_time = key.shape[2]
    scores = scores_oracle(*(each.to(calls.wide(query.dtype)) for each in (query, key, weight)))
    scores = scores.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)  # one pass; only nan is changed
    rows = best_rows(scores, key_time, top_k, local)[:, 0]
    found = scores[:, 0].gather(1, rows.clamp(min=0)) if key_time else scores.new_empty(rows.shape)
    found = found.masked_fill(rows >= key_time - local, math.inf)
    return rows.int(), found.masked_fill(rows < 0, -math.inf)
