"""The forms of softmax attention: the oracle, the online softmax, the tiled form, and the merge of parts.

Tensors are [batch, heads, time, head_dim]. Key and value may have fewer heads (grouped-query attention): query head h
reads key head h // (heads // key_heads). Queries align with the END of the keys: query i sits at position
key_time - query_time + i, so the same call serves training and decoding.
"""

import math
from typing import NamedTuple

import torch

from effattn_core.calls import wide

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


def part_of(scores, value):
    """The Part of masked scores: softmax(scores) value, and the log-sum-exp; output 0 where every score is -inf."""
    log_sum_exp = scores.logsumexp(-1)
    weight = torch.exp(scores - log_sum_exp.masked_fill(log_sum_exp == -math.inf, 0.0)[..., None])
    return Part(weight @ value, log_sum_exp)


def fill_infinite(part, value, seen):
    """The Part of values of which the infinite ones and nan were set to 0: each query that sees one gets that one.

    value: [batch, heads, key_time, value_dim], as it was, a head for each of the part's; seen: bool [..., time,
    key_time]. So a weight of 0 times an infinite value, which would be nan, is never taken.
    """

    def reached(kind):
        return seen.float() @ kind.float() > 0

    above, below = reached(value == math.inf), reached(value == -math.inf)
    output = part.output.masked_fill(above, math.inf).masked_fill(below, -math.inf)
    return part._replace(output=output.masked_fill(reached(value.isnan()) | (above & below), math.nan))


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
    return part_of(scores, value)


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
    group, dtype = query.shape[1] // key_heads, wide(query.dtype)
    scaled = query.to(dtype) * scale
    outputs, sums = [value.new_zeros(*query.shape[:2], 0, value.shape[3], dtype=dtype)], [scaled[:, :, :0, 0]]
    for rows, columns in _tiles(time, key_time, block, query.device, causal=causal, window=window, sinks=sinks):
        tile = _folded(scaled, rows, key_heads)
        maximum, total = tile.new_full(tile.shape[:-1], -math.inf), tile.new_zeros(tile.shape[:-1])
        state = maximum, total, tile.new_zeros(*tile.shape[:-1], value.shape[-1])
        for span, seen in columns:
            state = _absorb(state, tile, key[:, :, span].to(dtype), value[:, :, span].to(dtype), seen)
        maximum, total, accumulator = state
        outputs.append(_unfolded(accumulator / total[..., None], group))
        sums.append(_unfolded(maximum + total.log(), group))
    return Part(torch.cat(outputs, 2).to(query.dtype), torch.cat(sums, 2))


def _scores(query, key, seen):
    """query keyᵀ, -inf where not seen; the mask is the same for each head of a group.

    Filled in, not added: -inf added to the infinite score of a hidden key would be nan.
    """
    scores = query @ key.mT
    if seen is not None:
        scores.unflatten(2, (-1, len(seen))).masked_fill_(~seen, -math.inf)
    return scores


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
    group, dtype = query.shape[1] // key_heads, wide(query.dtype)
    delta = (grad.output.to(dtype) * part.output).sum(-1) - grad.log_sum_exp  # [batch, heads, time]
    scaled, grad_output = query.to(dtype) * scale, grad.output.to(dtype).contiguous()
    grad_query = torch.zeros_like(query, dtype=dtype)
    grad_key, grad_value = torch.zeros_like(key, dtype=dtype), torch.zeros_like(value, dtype=dtype)
    for rows, columns in _tiles(time, key_time, block, query.device, causal=causal, window=window, sinks=sinks):
        tile, back = _folded(scaled, rows, key_heads), _folded(grad_output, rows, key_heads)
        lowered = _folded(delta[..., None], rows, key_heads)
        log_sum_exp = _folded(part.log_sum_exp[..., None], rows, key_heads)
        for span, seen in columns:
            near_key, near_value = key[:, :, span].to(dtype), value[:, :, span].to(dtype)
            weight = torch.exp(_scores(tile, near_key, seen) - log_sum_exp)
            grad_scores = weight * (back @ near_value.mT - lowered)
            grad_query[:, :, rows] += _unfolded(scale * grad_scores @ near_key, group)
            grad_key[:, :, span] += grad_scores.mT @ tile
            grad_value[:, :, span] += weight.mT @ back
    return grad_query.to(query.dtype), grad_key.to(key.dtype), grad_value.to(value.dtype)


class Tiled(torch.autograd.Function):
    """`tiled` with `tiled_backward`: nothing of size time² is kept between the passes."""

    @staticmethod
    def forward(query, key, value, settings):
        return tuple(tiled(query, key, value, **settings))

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.settings = inputs
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    def backward(ctx, grad_output, grad_log_sum_exp):
        query, key, value, *part = ctx.saved_tensors
        grad = Part(grad_output, grad_log_sum_exp)
        return *tiled_backward(grad, query, key, value, Part(*part), **ctx.settings), None
