"""`attention` and `attention_part`: one call for every form, and the checks of its arguments."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from effattn_core import calls
from effattn_core.attention.forms import BLOCK, Part, Tiled, fill_infinite, oracle, tiled, visible
from kernels.table import DIMS

operators = calls.operators("attention")
LEAD = 5  # how many scores PyTorch's attention computes on a CPU while the tiled form computes one
FOLDED = 8192  # keys from which on a decoded token's heads of a group are better off as queries of one head
MASK = 1 << 24  # the most entries of a mask that is written out


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
    scale: float | None = None,
    implementation: str | None = None,
) -> torch.Tensor:
    """Softmax attention: for each query the mean of the values, weighted by softmax(scale · query keyᵀ).

    What a query does not see does not reach it, infinite or nan. On a GPU, where looking for one would wait, a value
    that is infinite or nan may: within its block of keys, and anywhere in the oracle.

    query: [batch, heads, time, head_dim]; returns [batch, heads, time, value_dim].
    key: [batch, key_heads, key_time, head_dim]; value: [batch, key_heads, key_time, value_dim], heads a multiple.
    window: keys seen before and including the query (needs causal), None for all; sinks: first keys seen besides it.
    scale: defaults to head_dim ** -0.5.
    implementation: "oracle" (in float64), "torch" (tiled), "triton" (interpreted without a GPU); None: the kernels on a
    GPU; on a CPU PyTorch's own attention, or the tiled form where that is ahead (a window over a long text).
    Raises ValueError for shapes, dtypes, devices or settings that do not fit, RuntimeError for "triton" where no kernel
    runs.
    """
    settings = dict(causal=causal, window=window, sinks=sinks, scale=scale, implementation=implementation)
    return _answer(query, key, value, part=False, **settings).output


def attention_part(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
    scale: float | None = None,
    implementation: str | None = None,
) -> Part:
    """`attention` with its log-sum-exp: a Part that `merge` can join with others. Arguments and errors as there.

    On a CPU None is the tiled form: PyTorch's own attention does not tell its log-sum-exp.
    """
    settings = dict(causal=causal, window=window, sinks=sinks, scale=scale, implementation=implementation)
    return _answer(query, key, value, part=True, **settings)


def _answer(query, key, value, *, causal, window, sinks, scale, implementation, part):
    """The Part of a call; without its log-sum-exp where `part` is False and PyTorch's own attention answers."""
    _check(query, key, value, causal, window, sinks)
    settings = dict(causal=causal, window=window, sinks=sinks, scale=calls.scale_of(scale, query.shape[3]))
    misfit = "" if implementation is None and query.is_cpu else _misfit(query, value)
    chosen = calls.choose(implementation, query.device, query.dtype, misfit)
    if _hides_infinite_values(chosen, query, value, causal):
        return _with_infinite_values(chosen, query, key, value, settings)
    if implementation is None and chosen == "torch" and not part:
        output = _by_pytorch(query, key, value, **settings)
        if output is not None:
            return Part(output, None)
    return _by(chosen, query, key, value, settings)


def _misfit(query, value):
    return calls.misfit_of_sizes(DIMS, head_dim=query.shape[3], value_dim=value.shape[3])


def _by(chosen, query, key, value, settings):
    """The Part of one implementation."""
    if chosen == "oracle":
        found = calls.exactly(oracle, query, key, value, **settings)
        return Part(found.output.to(query.dtype), found.log_sum_exp.to(calls.wide(query.dtype)))
    if chosen == "triton":
        return Part(*operators.attention_forward(query, key, value, *settings.values()))
    # A few queries, as in decoding, take longer tiles of keys: as many scores, in fewer steps.
    settings = settings | dict(block=max(BLOCK, BLOCK * BLOCK // max(1, query.shape[2])))
    if calls.carries_tangents():  # which `Tiled` would lose
        return tiled(query, key, value, **settings)
    return Part(*Tiled.apply(query, key, value, settings))


def _by_pytorch(query, key, value, *, causal, window, sinks, scale):
    """The output by PyTorch's own attention on a CPU; None where it does not cover the call or the tiled form is ahead.

    It takes no window and no queries that align with the end of the keys but as a mask that it adds to every score:
    -inf beside an infinite score is nan, and nothing is skipped.
    """
    time, key_time = query.shape[2], key.shape[2]
    if query.device.type != "cpu" or 0 in query.shape or query.shape[3] != value.shape[3] or calls.carries_tangents():
        return None
    if query.stride(3) != 1 or key.stride(3) != 1 or value.stride(3) != 1:  # which it would copy, or do slowly
        return None
    narrow = window is not None and window < key_time
    if time == 1:
        return _decoded(query, key, value, window if narrow else None, sinks, scale)
    seen = None
    if causal and (narrow or time < key_time):
        behind = narrow and LEAD * (window + sinks + BLOCK) < key_time
        if behind or time * key_time > MASK or torch.compiler.is_compiling() or _may_overflow(query, key, scale):
            return None
        seen = _mask(time, key_time, window if narrow else key_time, sinks)
    grouped = query.shape[1] != key.shape[1]
    whole = causal and seen is None
    return scaled_dot_product_attention(query, key, value, seen, is_causal=whole, scale=scale, enable_gqa=grouped)


def _decoded(query, key, value, window, sinks, scale):
    """The output for one query per head: what it sees lies at the two ends of the keys.

    Over many keys the heads of a group ride as so many queries of their key head: a key is read once for all of them.
    """
    if window is not None:
        start = key.shape[2] - window
        early = min(sinks, start)
        key, value = (
            torch.cat([each[:, :, :early], each[:, :, start:]], 2) if early else each[:, :, start:]
            for each in (key, value)
        )
    if key.shape[2] < FOLDED:
        return scaled_dot_product_attention(query, key, value, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    folded = query.reshape(query.shape[0], key.shape[1], -1, query.shape[3])
    return scaled_dot_product_attention(folded, key, value, scale=scale).reshape(query.shape)


def _mask(time, key_time, window, sinks):
    """`visible` of the last `time` queries: bool [time, key_time]."""
    near = torch.ones(time, key_time, dtype=torch.bool).triu_(key_time - time - window + 1)
    near[:, :sinks] = True
    return near.tril_(key_time - time)


def _may_overflow(query, key, scale):
    """Whether a score may be infinite or nan, so that adding -inf would not hide it."""
    if key.shape[2] == 0:
        return False
    largest = query.detach().abs().amax().double() * key.detach().abs().amax().double() * abs(scale) * query.shape[3]
    return not largest < torch.finfo(torch.float32).max / 2


def _hides_infinite_values(chosen, query, value, causal):
    """Whether a value that is infinite or nan may be hidden from a query. Not looked at on a GPU, which would wait."""
    reads_all = query.shape[2] == 1 and chosen != "oracle"  # a decoded token, whose hidden values are cut off
    if reads_all or not causal or query.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not value.isfinite().all()


def _with_infinite_values(chosen, query, key, value, settings):
    """The Part where some values are infinite or nan: a weight of 0 times one would be nan, so they are set apart.

    The finite values are multiplied; each query that sees another value then gets that one.
    """
    part = _by(chosen, query, key, torch.where(value.isfinite(), value, 0.0), settings)
    masks = {name: each for name, each in settings.items() if name != "scale"}
    places = torch.arange(key.shape[2])
    seen = visible(places[key.shape[2] - query.shape[2] :], places, **masks)
    return fill_infinite(part, value.repeat_interleave(query.shape[1] // key.shape[1], 1), seen)


def _ordinary(query, key, value, causal):
    """Whether nothing is to be said of these tensors: `_check` in one expression, for a token is decoded in 20 µs."""
    asked, kept, read = query.shape, key.shape, value.shape
    return (
        len(asked) == len(kept) == len(read) == 4
        and query.dtype == key.dtype == value.dtype
        and query.device == key.device == value.device
        and query.is_floating_point()
        and asked[0] == kept[0] == read[0]
        and 0 < kept[1] == read[1]
        and 0 < kept[2] == read[2]
        and 0 < asked[3] == kept[3]
        and 0 < read[3]
        and 0 < asked[1]
        and asked[1] % kept[1] == 0
        and not (causal and asked[2] > kept[2])
    )


def _check(query, key, value, causal, window, sinks):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    if window is None and sinks == 0 and _ordinary(query, key, value, causal):
        return
    calls.require_rank("batch, heads, time, head_dim", query=query, key=key, value=value)
    calls.require_alike(query=query, key=key, value=value)
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    calls.require_heads(query, key)
    calls.require_sizes(head_dim=query.shape[3], value_dim=value.shape[3])
    if key.shape[2] == 0 or (causal and query.shape[2] > key.shape[2]):
        raise ValueError(f"each query needs a key to see; got {query.shape[2]} queries and {key.shape[2]} keys.")
    if window is not None:
        calls.require_count("window", window)
        if not causal:
            raise ValueError(f"a window looks back, so causal must be True; got window {window}, causal {causal}.")
    calls.require_count("sinks", sinks, 0)
