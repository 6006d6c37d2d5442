"""The calls over pruned key channels: attention under a mask, one decoded token over a pruned cache; their checks."""

from collections.abc import Sequence

import torch

from effattn_core import calls
from effattn_core.attention import Part, fill_infinite
from effattn_core.channels.forms import grouped, oracle, together, unseen
from effattn_core.rectified import check_list
from kernels.table import DIMS

operators = calls.operators("channels")
EMPTY = ("removed", "zero")


def masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    factor: torch.Tensor,
    *,
    sinks: int = 4,
    recent: int = 32,
    chunk: int = 1,
    scale: float | None = None,
    empty: str = "removed",
) -> Part:
    """Masked dense attention, as masks are trained and as `decode` must answer: `oracle` for a call from outside.

    query: [batch, heads, time, head_dim]; key: [batch, key_heads, key_time, head_dim]; value: [batch, key_heads,
    key_time, value_dim]; factor: [key_heads, head_dim], a bool mask or numbers in [0, 1], on the same device. Queries
    are the last of the keys. scale: defaults to head_dim ** -0.5. Half precision is computed in float32. What a query
    does not see, and dropped channels, do not reach it, infinite or nan (values are looked at on a CPU alone).
    Raises ValueError for shapes, dtypes, devices or settings that do not fit.
    """
    calls.require_rank("batch, heads, time, head_dim", query=query, key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    calls.require_heads(query, key)
    calls.require_sizes(head_dim=query.shape[3], value_dim=value.shape[3])
    if key.shape[2] == 0 or query.shape[2] > key.shape[2]:
        raise ValueError(f"each query needs a key to see; got {query.shape[2]} queries and {key.shape[2]} keys.")
    require_region(sinks, recent, chunk)
    if empty not in EMPTY:
        raise ValueError(f"empty must be one of {EMPTY}; it is {empty!r}.")
    if factor.shape != (key.shape[1], key.shape[3]):
        wanted = (key.shape[1], key.shape[3])
        raise ValueError(f"factor must be [key_heads, head_dim], {wanted}; its shape is {tuple(factor.shape)}.")
    calls.require_device(query=query, factor=factor)
    settings = dict(sinks=sinks, recent=recent, chunk=chunk, empty=empty)
    scale, wide = calls.scale_of(scale, query.shape[3]), calls.wide(query.dtype)
    inputs = [each.to(wide) for each in (query, key, value)]
    looked = query.device.type == "cpu" and not torch.compiler.is_compiling()
    if looked and not (value.sum().isfinite() or value.isfinite().all()):  # a finite sum has only finite terms
        inputs[2] = torch.where(inputs[2].isfinite(), inputs[2], 0.0)
        part = oracle(*inputs, factor, scale=scale, **settings)
        group, places = query.shape[1] // key.shape[1], torch.arange(key.shape[2])
        hidden = unseen(places[-query.shape[2] :], places, factor.repeat_interleave(group, 0), **settings)
        part = fill_infinite(part, value.repeat_interleave(group, 1), ~hidden)
    else:
        part = oracle(*inputs, factor, scale=scale, **settings)
    return part._replace(output=part.output.to(query.dtype))


def decode(
    query: torch.Tensor,
    dense_key: torch.Tensor,
    dense_value: torch.Tensor,
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    channels: Sequence[torch.Tensor],
    *,
    scale: float | None = None,
    implementation: str | None = None,
) -> Part:
    """Attention of one token over a pruned cache. query: [batch, heads, 1, head_dim], heads in the order of a Plan.

    dense_key, dense_value: [batch, key_heads, tokens, ...], sinks and recent; keys, values: of each group the middle,
    [batch, heads of the group, tokens, count] and [..., value_dim]; channels: its integers [heads of the group, count],
    looked at on a CPU alone. scale: defaults to head_dim ** -0.5.
    implementation: "oracle" (one softmax, in float64), "torch" (grouped), "triton" (interpreted without a GPU); None:
    the kernels on a GPU, where they take the sizes, else "torch". Returns a Part.
    Raises ValueError for shapes, dtypes, devices or settings that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    _check_decode(query, dense_key, dense_value, keys, values, channels)
    scale, tensors = calls.scale_of(scale, query.shape[3]), (query, dense_key, dense_value, keys, values, channels)
    return answer(*tensors, scale=scale, implementation=implementation)


def answer(query, dense_key, dense_value, keys, values, channels, *, scale, implementation):
    """`decode` of arguments that are known to fit, as those of a cache are."""
    tensors = query, dense_key, dense_value, list(keys), list(values), list(channels)
    misfit = calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=dense_value.shape[3])
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if chosen == "triton":
        return Part(*operators.channels_decode(*tensors, scale))
    if chosen == "torch":
        return grouped(*tensors, scale=scale)
    found = calls.exactly(together, *tensors, scale=scale)
    return Part(found.output.to(query.dtype), found.log_sum_exp.to(calls.wide(query.dtype)))


def require_region(sinks: int, recent: int, chunk: int) -> None:
    """Raise ValueError unless the region that is read whole is one: counts, all but `sinks` at least 1."""
    calls.require_count("sinks", sinks, 0)
    calls.require_count("recent", recent)
    calls.require_count("chunk", chunk)


def _check_decode(query, dense_key, dense_value, keys, values, channels):
    """Raise ValueError with one sentence unless query, dense region and groups fit each other."""
    calls.require_rank("batch, heads, 1, head_dim", query=query)
    calls.require_rank("batch, key_heads, tokens, head_dim or value_dim", dense_key=dense_key, dense_value=dense_value)
    calls.require_alike(query=query, dense_key=dense_key, dense_value=dense_value)
    batch, _, time, head_dim = query.shape
    if time != 1:
        raise ValueError(f"query must be [batch, heads, 1, head_dim]; its shape is {tuple(query.shape)}.")
    if dense_key.shape[:3] != dense_value.shape[:3] or (dense_key.shape[0], dense_key.shape[3]) != (batch, head_dim):
        raise ValueError(
            f"shapes must agree; got {tuple(query.shape)}, {tuple(dense_key.shape)}, {tuple(dense_value.shape)}."
        )
    calls.require_heads(query, dense_key)
    calls.require_sizes(head_dim=head_dim, value_dim=dense_value.shape[3])
    if dense_key.shape[2] == 0:
        raise ValueError(f"the dense region needs a token; its shape is {tuple(dense_key.shape)}.")
    sizes = len(keys), len(values), len(channels)
    if len(set(sizes)) > 1:
        raise ValueError(f"each group has a key, a value and channels; got {sizes}.")
    for key, value, kept in zip(keys, values, channels, strict=True):
        calls.require_rank("batch, heads, tokens, size", **{"a group's key": key, "a group's value": value})
        calls.require_alike(**{"query": query, "a group's key": key, "a group's value": value})
        calls.require_device(**{"query": query, "a group's channels": kept})
        wanted = (batch, key.shape[1], key.shape[2], dense_value.shape[3])
        if key.shape[0] != batch or value.shape != wanted or kept.shape != (key.shape[1], key.shape[3]):
            raise ValueError(
                f"a group's key, value and channels must agree; got {tuple(key.shape)}, {tuple(value.shape)}, "
                f"{tuple(kept.shape)}."
            )
        check_list("channels", kept, head_dim, gaps=False)
    if sum(key.shape[1] for key in keys) > dense_key.shape[1]:
        raise ValueError(f"the groups hold more heads than the {dense_key.shape[1]} of the dense region.")
