"""Key channels that a decoded token need not read (LeanK): attention under a fixed mask, and one token by groups.

Tensors are [batch, heads, time, head_dim]; keys and values may have fewer heads, as in `effattn_core.attention`. A mask
is bool [key_heads, head_dim]: the channels of each key head that are kept in the middle of the text. The first `sinks`
keys and the latest `recent` are always read whole, and so are all values of a head that keeps any channel.
"""

import math

import torch

from effattn_core.attention import Part, merge, part_of
from effattn_core.calls import wide


def middle(query_position, key_position, *, sinks, recent, chunk=1):
    """Which keys a query reads by their kept channels alone: bool [queries, keys].

    Keys from `sinks` on that are at least `recent` tokens old, in whole chunks of `chunk`: a cache prunes so many at a
    time.
    """
    moved = (query_position + 1 - sinks - recent).clamp(min=0) // chunk * chunk
    return (key_position >= sinks) & (key_position < sinks + moved[:, None])


def unseen(query_position, key_position, factor, *, sinks, recent, chunk=1, empty="removed"):
    """Which keys a query does not see: bool, [queries, keys] or, where heads without channels drop the middle, [heads,
    queries, keys]. factor: [heads, head_dim]."""
    hidden = key_position > query_position[:, None]
    if empty == "zero":
        return hidden
    pruned = middle(query_position, key_position, sinks=sinks, recent=recent, chunk=chunk)
    return hidden | (pruned & (factor == 0).all(-1)[:, None, None])


def oracle(query, key, value, factor, *, sinks, recent, chunk=1, scale, empty="removed"):
    """Masked dense attention (eq. channels): keys of the middle are multiplied by `factor`, all others are whole.

    factor: [key_heads, head_dim], a bool mask or numbers in [0, 1]. empty: what the middle is to a head without any
    channel: logits of "zero", as masks are trained, or "removed", as they are deployed. Returns a Part.
    """
    group, region = query.shape[1] // key.shape[1], dict(sinks=sinks, recent=recent, chunk=chunk)
    factor = factor.to(query).repeat_interleave(group, 0)
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    key_position = torch.arange(key.shape[2], device=query.device)
    query_position = torch.arange(query.shape[2], device=query.device) + key.shape[2] - query.shape[2]
    # Of a channel that is dropped 0 times anything is 0; what is finite stays, for a gradient by its factor.
    thin = torch.where((factor == 0)[:, None], key.nan_to_num(0.0, 0.0, 0.0), key)
    pruned = middle(query_position, key_position, **region)
    scores = torch.where(pruned, scale * query * factor[:, None] @ thin.mT, scale * query @ key.mT)
    scores = scores.masked_fill(unseen(query_position, key_position, factor, empty=empty, **region), -math.inf)
    return Part(scores.softmax(-1) @ value, scores.logsumexp(-1))


def together(query, dense_key, dense_value, keys, values, channels, *, scale):
    """One decoded token: one softmax over the whole keys and the kept channels of the others, a group of heads at once.

    Shapes as in `decode`. The definition that `grouped` and the kernels answer to. Returns a Part.
    """
    group, parts, first = query.shape[1] // dense_key.shape[1], [], 0
    for key, value, kept in zip(keys, values, channels, strict=True):
        heads, first = slice(first, first + len(kept)), first + len(kept)
        rows = query[:, heads.start * group : heads.stop * group, 0].unflatten(1, (len(kept), group))
        narrow = rows.gather(-1, kept.long()[None, :, None].expand(len(rows), -1, group, -1))
        scores = torch.cat([scale * rows @ dense_key[:, heads].mT, scale * narrow @ key.mT], -1)
        parts.append(part_of(scores, torch.cat([dense_value[:, heads], value], 2)))
    rows = query[:, first * group :, 0].unflatten(1, (-1, group)) if query.shape[1] > first * group else None
    if rows is not None:  # heads without a channel have no middle
        parts.append(part_of(scale * rows @ dense_key[:, first:].mT, dense_value[:, first:]))
    return Part(*(torch.cat([each.flatten(1, 2)[:, :, None] for each in of], 1) for of in zip(*parts, strict=True)))


def grouped(query, dense_key, dense_value, keys, values, channels, *, scale):
    """One decoded token by groups of heads: the whole keys, then each group's kept channels, merged (eq. merge).

    Shapes as in `decode`; the half precisions are computed in float32. Returns a Part.
    """
    dtype, (batch, heads, _, _) = wide(query.dtype), query.shape
    group = heads // dense_key.shape[1]
    rows = scale * query[:, :, 0].to(dtype).unflatten(1, (-1, group))  # [batch, key_heads, group, head_dim]
    whole = part_of(rows @ dense_key.to(dtype).mT, dense_value.to(dtype))
    found, first = [], 0
    for key, value, kept in zip(keys, values, channels, strict=True):
        mine, first = slice(first, first + len(kept)), first + len(kept)
        near = Part(whole.output[:, mine], whole.log_sum_exp[:, mine])
        if key.shape[2]:
            index = kept.long()[None, :, None].expand(batch, -1, group, -1)
            narrow = rows[:, mine].gather(-1, index)
            near = merge([near, part_of(narrow @ key.to(dtype).mT, value.to(dtype))])
        found.append(near)
    found.append(Part(whole.output[:, first:], whole.log_sum_exp[:, first:]))  # heads without a channel: no middle
    output, log_sum_exp = (torch.cat(each, 1).flatten(1, 2) for each in zip(*found, strict=True))
    return Part(output[:, :, None].to(query.dtype), log_sum_exp[..., None])
