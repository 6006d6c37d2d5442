"""Softmax attention: the oracle, the online softmax, the tiled form, the merge of parts, and the key-value cache.

Tensors are [batch, heads, time, head_dim]. Key and value may have fewer heads (grouped-query attention): query head h
reads key head h // (heads // key_heads). Queries align with the END of the keys: query i sits at position
key_time - query_time + i, so the same call serves training and decoding.
"""

import math
from typing import NamedTuple

import torch

from kernels.runtime import require_kernels

BLOCK = 256  # query and key rows of a tile on a CPU: a tile of scores stays in cache


class Part(NamedTuple):
    """Attention over some keys. output: [..., time, value_dim], normalised; log_sum_exp: [..., time], natural."""

    output: torch.Tensor
    log_sum_exp: torch.Tensor


def visible(query_position, key_position, *, causal=True, window=None, sinks=0):
    """Which keys each query may see: bool [queries, keys].

    causal: keys up to the query itself; window: only the last `window` of them; sinks: the first `sinks` keys always.
    """
    distance = query_position[:, None] - key_position[None, :]
    if not causal:
        return torch.ones_like(distance, dtype=torch.bool)
    near = distance < window if window is not None else torch.ones_like(distance, dtype=torch.bool)
    return (distance >= 0) & (near | (key_position < sinks)[None, :])


def oracle(query, key, value, *, causal=True, window=None, sinks=0, scale):
    """softmax(scale · query keyᵀ, over visible keys) value: obvious on purpose, every other form answers to it.

    query: [batch, heads, time, head_dim]   key, value: [batch, key_heads, key_time, ...]   Returns a Part.
    """
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    key_position = torch.arange(key.shape[2], device=query.device)
    query_position = torch.arange(query.shape[2], device=query.device) + key.shape[2] - query.shape[2]
    seen = visible(query_position, key_position, causal=causal, window=window, sinks=sinks)
    scores = (scale * query @ key.mT).masked_fill(~seen, -math.inf)
    return Part(scores.softmax(-1) @ value, scores.logsumexp(-1))


def online_softmax(scores, value):
    """The running triple (maximum, total, accumulator) walked along a row: one key at a time, exact at every step.

    scores: [keys]; value: [keys, value_dim]. Yields (maximum, total, accumulator) after each key; the output is
    accumulator / total (Milakov and Gimelshein 2018; FlashAttention, algorithm 1).
    """
    maximum, total, accumulator = scores.new_tensor(-math.inf), scores.new_tensor(0.0), torch.zeros_like(value[0])
    for score, row in zip(scores, value, strict=True):
        larger = torch.maximum(maximum, score)
        rescale, weight = torch.exp(maximum - larger), torch.exp(score - larger)
        maximum, total, accumulator = larger, rescale * total + weight, rescale * accumulator + weight * row
        yield maximum, total, accumulator


def merge(parts):
    """Attention over the union of disjoint sets of keys, from the Part of each: associative, commutative.

    An empty part has log_sum_exp -inf and output 0 and changes nothing.
    """
    parts = list(parts)
    if not parts:
        raise ValueError("merge needs at least one part; it was given none.")
    lse = torch.stack([part.log_sum_exp for part in parts])
    total = lse.logsumexp(0)
    # Where every part is empty, total is -inf: weigh by exp(-inf) = 0 rather than by exp(-inf + inf) = nan.
    weight = torch.exp(lse - total.masked_fill(total == -math.inf, 0.0))
    output = torch.stack([part.output for part in parts])
    return Part((weight[..., None].to(output.dtype) * output).sum(0), total)


def key_ranges(first, last, key_time, *, causal, window, sinks):
    """The spans of keys that queries at positions first..last can see: one or two (start, stop), never overlapping."""
    if not causal:
        return [(0, key_time)]
    start = 0 if window is None else max(0, first - window + 1)
    early = min(sinks, start, last + 1)
    return ([(0, early)] if early else []) + [(start, last + 1)]


def _tiles(time, key_time, block, device, *, causal, window, sinks):
    """Yield, for each tile of queries, its slice and its tiles of keys: [(slice, seen)], None where all is seen."""
    for begin in range(0, time, block):
        rows = slice(begin, min(begin + block, time))
        first, last = key_time - time + rows.start, key_time - time + rows.stop - 1
        columns = []
        for start, stop in key_ranges(first, last, key_time, causal=causal, window=window, sinks=sinks):
            for left in range(start, stop, block):
                span = slice(left, min(left + block, stop))
                whole = span.stop - 1 <= first and (window is None or last - span.start < window)
                seen = None
                if causal and not whole:
                    positions = [torch.arange(first, last + 1), torch.arange(span.start, span.stop)]
                    seen = visible(*positions, causal=causal, window=window, sinks=sinks).to(device)
                columns.append((span, seen))
        yield rows, columns


def _folded(tensor, rows, key_heads):
    """Rows of [batch, heads, time, ...] as [batch, key_heads, group · rows, ...]: a key head beside all it serves."""
    return tensor[:, :, rows].unflatten(1, (key_heads, -1)).flatten(2, 3)


def _unfolded(tensor, group):
    """[batch, key_heads, group · rows, ...] as [batch, heads, rows, ...]."""
    return tensor.unflatten(2, (group, -1)).flatten(1, 2)


def tiled(query, key, value, *, causal=True, window=None, sinks=0, scale, block=BLOCK):
    """The oracle by tiles (FlashAttention-2): never more than block × block scores a head, unseen tiles skipped.

    Shapes as in `oracle`. Half precision is computed in float32. Returns a Part; differentiable.
    """
    time, key_time, key_heads = query.shape[2], key.shape[2], key.shape[1]
    group, wide = query.shape[1] // key_heads, torch.promote_types(query.dtype, torch.float32)
    scaled = query.to(wide) * scale
    outputs, sums = [value.new_zeros(*query.shape[:2], 0, value.shape[3], dtype=wide)], [scaled[:, :, :0, 0]]
    for rows, columns in _tiles(time, key_time, block, query.device, causal=causal, window=window, sinks=sinks):
        tile = _folded(scaled, rows, key_heads)
        maximum, total = tile.new_full(tile.shape[:-1], -math.inf), tile.new_zeros(tile.shape[:-1])
        state = maximum, total, tile.new_zeros(*tile.shape[:-1], value.shape[-1])
        for span, seen in columns:
            state = _absorb(state, tile, key[:, :, span].to(wide), value[:, :, span].to(wide), seen)
        maximum, total, accumulator = state
        outputs.append(_unfolded(accumulator / total[..., None], group))
        sums.append(_unfolded(maximum + total.log(), group))
    return Part(torch.cat(outputs, 2).to(query.dtype), torch.cat(sums, 2))


def _scores(query, key, seen):
    """query keyᵀ, -inf where not seen; the mask is the same for each head of a group."""
    scores = query @ key.mT
    if seen is None:
        return scores
    hidden = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, -math.inf)
    return scores + hidden.repeat(query.shape[2] // len(seen), 1)


def _absorb(state, query, key, value, seen):
    """One step of the online softmax, a whole tile wide: the triple of `online_softmax` for every query row."""
    maximum, total, accumulator = state
    scores = _scores(query, key, seen)
    larger = torch.maximum(maximum, scores.amax(-1))
    # A row that has seen nothing yet has maximum -inf: subtract 0 instead, so that its weights are 0 and not nan.
    shift = larger.masked_fill(larger == -math.inf, 0.0)
    rescale, weight = torch.exp(maximum - shift), torch.exp(scores - shift[..., None])
    return larger, rescale * total + weight.sum(-1), rescale[..., None] * accumulator + weight @ value


def tiled_backward(grad, query, key, value, part, *, causal=True, window=None, sinks=0, scale, block=BLOCK):
    """Gradients (query, key, value) of `tiled`, scores computed again from the saved log-sum-exp (FlashAttention-2).

    grad, part: a Part each, the gradients of and the values of output and log_sum_exp. Nothing of size time² is kept.
    """
    time, key_time, key_heads = query.shape[2], key.shape[2], key.shape[1]
    group, wide = query.shape[1] // key_heads, torch.promote_types(query.dtype, torch.float32)
    delta = (grad.output.to(wide) * part.output).sum(-1) - grad.log_sum_exp  # [batch, heads, time]
    scaled, grad_output = query.to(wide) * scale, grad.output.to(wide).contiguous()
    grad_query = torch.zeros_like(query, dtype=wide)
    grad_key, grad_value = torch.zeros_like(key, dtype=wide), torch.zeros_like(value, dtype=wide)
    for rows, columns in _tiles(time, key_time, block, query.device, causal=causal, window=window, sinks=sinks):
        tile, back = _folded(scaled, rows, key_heads), _folded(grad_output, rows, key_heads)
        lowered = _folded(delta[..., None], rows, key_heads)
        log_sum_exp = _folded(part.log_sum_exp[..., None], rows, key_heads)
        for span, seen in columns:
            near_key, near_value = key[:, :, span].to(wide), value[:, :, span].to(wide)
            weight = torch.exp(_scores(tile, near_key, seen) - log_sum_exp)
            grad_scores = weight * (back @ near_value.mT - lowered)
            grad_query[:, :, rows] += _unfolded(scale * grad_scores @ near_key, group)
            grad_key[:, :, span] += grad_scores.mT @ tile
            grad_value[:, :, span] += weight.mT @ back
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)


def _forward_on_cpu(query, key, value, causal, window, sinks, scale, implementation):
    if implementation == "triton":
        return run_forward(query, key, value, causal, window, sinks, scale, implementation)
    # A few queries, as in decoding, take longer tiles of keys: as many scores, in fewer steps.
    block = max(BLOCK, BLOCK * BLOCK // max(1, query.shape[2]))
    return tuple(tiled(query, key, value, causal=causal, window=window, sinks=sinks, scale=scale, block=block))


def _backward_on_cpu(grad_output, grad_log_sum_exp, query, key, value, output, log_sum_exp, *settings):
    causal, window, sinks, scale, implementation = settings
    grad, part = Part(grad_output, grad_log_sum_exp), Part(output, log_sum_exp)
    if implementation == "triton":
        return run_backward(*grad, query, key, value, *part, *settings)
    return tiled_backward(grad, query, key, value, part, causal=causal, window=window, sinks=sinks, scale=scale)


try:  # where triton is not installed the tiled form serves alone, and autograd goes through it
    from kernels.attention import HEAD_DIMS
    from kernels.attention.operators import attention_backward, attention_forward, run_backward, run_forward
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    attention_forward = None
else:
    attention_forward.register_kernel("cpu")(_forward_on_cpu)
    attention_backward.register_kernel("cpu")(_backward_on_cpu)


def attention(query, key, value, *, causal=True, window=None, sinks=0, scale=None, implementation=None):
    """Softmax attention. query: [batch, heads, time, head_dim]; returns [batch, heads, time, value_dim].

    key: [batch, key_heads, key_time, head_dim]; value: [batch, key_heads, key_time, value_dim], heads a multiple.
    window: keys seen before and including the query (needs causal); sinks: first keys seen always.
    scale: defaults to head_dim ** -0.5. implementation: "oracle", "torch" (tiled), "triton" (interpreted without a
    GPU); None lets the device pick. Raises ValueError for shapes, dtypes, devices or settings that do not fit,
    RuntimeError for "triton" where no kernel runs.
    """
    return attention_part(
        query, key, value, causal=causal, window=window, sinks=sinks, scale=scale, implementation=implementation
    ).output


def attention_part(query, key, value, *, causal=True, window=None, sinks=0, scale=None, implementation=None):
    """`attention` with its log-sum-exp: a Part that `merge` can join with others. Arguments and errors as there."""
    _check(query, key, value, causal, window, sinks, scale)
    if implementation not in (None, "oracle", "torch", "triton"):
        raise ValueError(f"implementation must be 'oracle', 'torch', 'triton' or None; it is {implementation!r}.")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    settings = dict(causal=causal, window=window, sinks=sinks, scale=scale)
    if implementation == "triton" and attention_forward is None:
        require_kernels()
    if implementation == "oracle":
        return oracle(query, key, value, **settings)
    if attention_forward is None or (query.device.type != "cpu" and not _kernels_fit(query, value, implementation)):
        return tiled(query, key, value, **settings)
    return Part(*attention_forward(query, key, value, causal, window, sinks, scale, implementation or "device"))


def _kernels_fit(query, value, implementation):
    """Whether a GPU call goes to the kernels: asked for by name, or left open and of a shape that they take."""
    return implementation == "triton" or (
        implementation is None and query.dtype != torch.float64 and {query.shape[3], value.shape[3]} <= set(HEAD_DIMS)
    )


def _check(query, key, value, causal, window, sinks, scale):
    """Raise ValueError with one sentence, what was given and what is wanted, unless the call makes sense."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.ndim != 4:
            raise ValueError(f"{name} must be [batch, heads, time, head_dim]; its shape is {tuple(tensor.shape)}.")
    if len({query.dtype, key.dtype, value.dtype}) > 1 or not query.is_floating_point():
        raise ValueError(
            f"query, key, value must share a floating dtype; got {query.dtype}, {key.dtype}, {value.dtype}."
        )
    if len({query.device, key.device, value.device}) > 1:
        raise ValueError(f"query, key, value must share a device; got {query.device}, {key.device}, {value.device}.")
    if key.shape[:3] != value.shape[:3] or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(f"shapes must agree; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}.")
    if key.shape[1] == 0 or query.shape[1] % key.shape[1]:
        raise ValueError(
            f"key heads must divide query heads; got {key.shape[1]} key heads, {query.shape[1]} query heads."
        )
    if key.shape[2] == 0 or (causal and query.shape[2] > key.shape[2]):
        raise ValueError(f"each query needs a key to see; got {query.shape[2]} queries and {key.shape[2]} keys.")
    if window is not None and (window < 1 or not causal):
        raise ValueError(f"window must be at least 1 and causal True; got window {window}, causal {causal}.")
    if sinks < 0:
        raise ValueError(f"sinks must be 0 or more; it is {sinks}.")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number; it is {scale}.")


class KeyValueCache:
    """Keys and values of the tokens so far, in storage reserved once; `key`, `value` view the filled part."""

    def __init__(self, batch, heads, capacity, head_dim, value_dim=None, *, dtype=torch.float32, device=None):
        self._key = torch.empty(batch, heads, capacity, head_dim, dtype=dtype, device=device)
        self._value = torch.empty(batch, heads, capacity, value_dim or head_dim, dtype=dtype, device=device)
        self.length, self.capacity = 0, capacity

    def append(self, key, value):
        """Add key: [batch, heads, new, head_dim] and value. Raises ValueError past capacity or for another shape."""
        new, end = key.shape[2], self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.length} of {self.capacity} tokens; {new} more do not fit.")
        for name, given, stored in (("key", key, self._key), ("value", value, self._value)):
            wanted = (*stored.shape[:2], new, stored.shape[3])
            if given.shape != wanted or given.dtype != stored.dtype:
                raise ValueError(f"{name} must be {wanted} {stored.dtype}; it is {tuple(given.shape)} {given.dtype}.")
        self._key[:, :, self.length : end], self._value[:, :, self.length : end] = key, value
        self.length = end

    @property
    def key(self):
        return self._key[:, :, : self.length]

    @property
    def value(self):
        return self._value[:, :, : self.length]

    @property
    def nbytes(self):
        """Bytes reserved, filled or not."""
        return self._key.nbytes + self._value.nbytes


class WindowCache:
    """Keys and values of the last `window` tokens, a ring that each new token overwrites at its oldest place.

    Turned keys may lie in any order for a single query, which sees them all; more queries get them put in order.
    """

    def __init__(self, batch, heads, window, head_dim, value_dim=None, *, dtype=torch.float32, device=None):
        self._key = torch.empty(batch, heads, window, head_dim, dtype=dtype, device=device)
        self._value = torch.empty(batch, heads, window, value_dim or head_dim, dtype=dtype, device=device)
        self.length, self.window = 0, window

    def attend(self, query, key, value):
        """Take in new tokens and attend from each to the window that ends with it. Shapes as in `attention`."""
        if query.shape[2] == 1:
            self._keep(key, value)
            filled = slice(0, min(self.length, self.window))
            return attention(query, self._key[:, :, filled], self._value[:, :, filled], causal=False)
        before = self._ordered()
        keys, values = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self._keep(key, value)
        return attention(query, keys, values, window=self.window)

    def _ordered(self):
        """(keys, values) of the last window - 1 tokens, oldest first: what the next query sees beside its own."""
        kept = torch.arange(max(0, self.length - self.window + 1), self.length, device=self._key.device)
        return self._key[:, :, kept % self.window], self._value[:, :, kept % self.window]

    def _keep(self, key, value):
        new = min(key.shape[2], self.window)
        self.length += key.shape[2]
        place = torch.arange(self.length - new, self.length, device=key.device) % self.window
        self._key[:, :, place], self._value[:, :, place] = key[:, :, -new:], value[:, :, -new:]

    @property
    def nbytes(self):
        """Bytes reserved: they do not grow with the text."""
        return self._key.nbytes + self._value.nbytes
