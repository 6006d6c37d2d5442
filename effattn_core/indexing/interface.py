"""The calls of a shared index: choose rows, gather them once, attend to them in each layer; and their checks."""

import torch

from effattn_core import calls
from effattn_core.attention import Part
from effattn_core.indexing.forms import gather_torch, gathered, near_torch, oracle, require_counts, select_torch
from effattn_core.rectified import check_list
from kernels.table import DIMS

operators = calls.operators("indexing")


def select_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    weight: torch.Tensor,
    *,
    top_k: int,
    local: int = 1,
    implementation: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score every token for one query and keep the best: (rows, scores), [batch, top_k] int32 and float32 or wider.

    query: [batch, index_heads, 1, index_dim]; key: [batch, 1, key_time, index_dim]; weight: [batch, index_heads, 1].
    rows ascend, -1 at the end where there are fewer tokens; ties and `local` as in `choose_rows`; the scores of rows
    that are forced are inf; a score that is nan counts as -inf.
    implementation: "oracle" (in float64) and "torch" store the row of scores, "triton" never does; None: the kernels on
    a GPU, where they take the sizes, else "torch".
    Raises ValueError for shapes, dtypes, devices or counts that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    require_counts(top_k, local)
    calls.require_rank("batch, index_heads, 1, index_dim", query=query)
    calls.require_rank("batch, 1, key_time, index_dim", key=key)
    calls.require_rank("batch, index_heads, 1", weight=weight)
    calls.require_alike(query=query, key=key, weight=weight)
    batch, heads, time, index_dim = query.shape
    if time != 1 or weight.shape != query.shape[:3]:
        raise ValueError(
            "query must be [batch, index_heads, 1, index_dim] and weight [batch, index_heads, 1]; "
            f"got {tuple(query.shape)} and {tuple(weight.shape)}."
        )
    if (key.shape[0], key.shape[1], key.shape[3]) != (batch, 1, index_dim):
        raise ValueError(
            f"key must be [{batch}, 1, key_time, {index_dim}], one index key per token; got {tuple(key.shape)}."
        )
    calls.require_sizes(index_heads=heads, index_dim=index_dim)
    chosen = calls.choose(implementation, query.device, query.dtype, _misfit(heads, index_dim, top_k))
    if chosen == "triton":
        return operators.index_select(query, key, weight, top_k, local)
    if chosen == "torch":
        return select_torch(query, key, weight, top_k, local)
    rows, scores = calls.exactly(select_torch, query, key, weight, top_k=top_k, local=local)
    return rows, scores.to(calls.wide(query.dtype))


def gather_rows(
    key: torch.Tensor, value: torch.Tensor, rows: torch.Tensor, *, implementation: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen rows of keys and values, copied once for all layers: ([batch, key_heads, count, ...], the same).

    rows: [batch, count] integers, -1 gives zeros, as does, on a GPU, a row that is not there. A layer then calls
    `row_attention(..., gathered_already=True)`.
    implementation and errors as there; "oracle" and "torch" copy alike.
    """
    _check_rows(key, value, rows)
    check_list("rows", rows, key.shape[2])
    misfit = calls.misfit_of_sizes(DIMS, head_dim=key.shape[3], value_dim=value.shape[3])
    if calls.choose(implementation, key.device, key.dtype, misfit) == "triton":
        return operators.index_gather(key, value, rows)
    return gather_torch(rows, key, value)


def row_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    rows: torch.Tensor,
    *,
    gathered_already: bool = False,
    scale: float | None = None,
    implementation: str | None = None,
) -> Part:
    """Attention of one query a head over the chosen rows of a cache. Returns a Part, as `attention_part` does.

    query: [batch, heads, 1, head_dim]; key: [batch, key_heads, key_time, head_dim]; value: [batch, key_heads, key_time,
    value_dim]; or, if gathered_already, what `gather_rows` made; rows: integers [batch, count], for all heads, in any
    order, each row once, -1 for none. On a CPU they are looked at; on a GPU a row that is not there is left out.
    scale, implementation: as in `attention`; "torch" gathers the rows. What is in no chosen row does not reach the
    output, infinite or nan.
    Raises ValueError for shapes, dtypes, devices or settings that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    calls.require_rank("batch, heads, 1, head_dim", query=query)
    _check_rows(key, value, rows)
    calls.require_alike(query=query, key=key)
    if query.shape[2] != 1 or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query must be [batch, heads, 1, head_dim] and fit the keys; got {tuple(query.shape)} and "
            f"{tuple(key.shape)}."
        )
    calls.require_heads(query, key)
    if gathered_already and rows.shape[1] != key.shape[2]:
        raise ValueError(f"gathered keys have {key.shape[2]} rows, the list {rows.shape[1]}: they must agree.")
    check_list("rows", rows, None if gathered_already else key.shape[2])
    scale = calls.scale_of(scale, query.shape[3])
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=value.shape[3])
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if chosen == "triton":
        return Part(*operators.index_attention(query, key, value, rows, gathered_already, scale))
    if chosen == "torch":
        return (near_torch if gathered_already else gathered)(query, key, value, rows, scale=scale)
    if gathered_already:  # the rows lie where the list has them
        rows = torch.where(rows < 0, -1, torch.arange(rows.shape[1], device=rows.device))
    found = calls.exactly(oracle, query, key, value, rows, scale=scale)
    return Part(found.output.to(query.dtype), found.log_sum_exp.to(calls.wide(query.dtype)))


def _misfit(heads, index_dim, top_k):
    """Why the scoring kernel does not take a call, as `calls.choose` takes it; its limits are the kernels' own."""
    if operators is None:
        return ""
    if heads > operators.INDEX_HEADS:
        return f"the kernel takes at most {operators.INDEX_HEADS} index heads; got {heads}"
    if top_k > operators.MOST:
        return f"the kernel keeps at most {operators.MOST} rows; top_k is {top_k}"
    return calls.misfit_of_sizes(operators.INDEX_DIMS, index_dim=index_dim)


def _check_rows(key, value, rows):
    calls.require_rank("batch, key_heads, key_time, head_dim or value_dim", key=key, value=value)
    calls.require_rank("batch, count", rows=rows)
    calls.require_alike(key=key, value=value)
    calls.require_device(key=key, rows=rows)
    if key.shape[:3] != value.shape[:3]:
        raise ValueError(f"key and value must agree; got {tuple(key.shape)} and {tuple(value.shape)}.")
    calls.require_sizes(head_dim=key.shape[3], value_dim=value.shape[3])
    if rows.shape[0] != key.shape[0]:
        raise ValueError(f"rows must be integers [{key.shape[0]}, count]; got {tuple(rows.shape)} {rows.dtype}.")
