"""Key channels that a decoded token need not read (LeanK): a fixed mask, attention under it, and its cache.

Tensors are [batch, heads, time, head_dim]; keys and values may have fewer heads, as in `effattn_core.attention`. A mask
is bool [key_heads, head_dim]: the channels of each key head that are kept in the middle of the text. The first `sinks`
keys and the latest `recent` are always read whole, and so are all values of a head that keeps any channel.
"""

import copy
import math
from dataclasses import dataclass

import torch

from effattn_core.attention import Part, attention, attention_part, merge
from effattn_core.states import KeyValueCache, State, require_fit
from kernels.runtime import require_kernels

EMPTY = ("removed", "zero")


def middle(query_position, key_position, *, sinks, recent, chunk=1):
    """Which keys a query reads by their kept channels alone: bool [queries, keys].

    Keys from `sinks` on that are at least `recent` tokens old, in whole chunks of `chunk`: a cache prunes so many at a
    time.
    """
    moved = (query_position + 1 - sinks - recent).clamp(min=0) // chunk * chunk
    return (key_position >= sinks) & (key_position < sinks + moved[:, None])


def oracle(query, key, value, factor, *, sinks, recent, chunk=1, scale, empty="removed"):
    """Masked dense attention (eq. channels): keys of the middle are multiplied by `factor`, all others are whole.

    factor: [key_heads, head_dim], a bool mask or numbers in [0, 1]. empty: what the middle is to a head without any
    channel: logits of "zero", as masks are trained, or "removed", as they are deployed. Returns a Part.
    """
    group = query.shape[1] // key.shape[1]
    factor = factor.to(query).repeat_interleave(group, 0)
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    key_position = torch.arange(key.shape[2], device=query.device)
    query_position = torch.arange(query.shape[2], device=query.device) + key.shape[2] - query.shape[2]
    pruned = middle(query_position, key_position, sinks=sinks, recent=recent, chunk=chunk)
    scores = torch.where(pruned, scale * query * factor[:, None] @ key.mT, scale * query @ key.mT)
    unseen = key_position > query_position[:, None]
    if empty == "removed":
        unseen = unseen | (pruned & (factor == 0).all(-1)[:, None, None])
    scores = scores.masked_fill(unseen, -math.inf)
    return Part(scores.softmax(-1) @ value, scores.logsumexp(-1))


def masked(query, key, value, factor, *, sinks=4, recent=32, chunk=1, scale=None, empty="removed"):
    """`oracle` for a call from outside: scale defaults to head_dim ** -0.5, and bad input is refused in a sentence."""
    _check_sizes(sinks, recent, chunk)
    if empty not in EMPTY:
        raise ValueError(f"empty must be one of {EMPTY}; it is {empty!r}.")
    if factor.shape != (key.shape[1], key.shape[3]):
        wanted = (key.shape[1], key.shape[3])
        raise ValueError(f"factor must be [key_heads, head_dim], {wanted}; its shape is {tuple(factor.shape)}.")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    return oracle(query, key, value, factor, sinks=sinks, recent=recent, chunk=chunk, scale=scale, empty=empty)


def middle_mass(whole, logit, far, empty="zero"):
    """Share of a head's attention that its middle takes if the head keeps no channel (eq. channels-empty).

    whole: tokens that are read whole, all with the same `logit`; far: tokens of the middle, whose logits are 0.
    """
    return 0.0 if empty == "removed" else far / (far + whole * math.exp(logit))


def build_mask(importance, pruned, align=1):
    """The channels to keep: bool of importance's shape, [..., head_dim], about 1 - pruned of all (eq. channels-mask).

    One threshold for all layers and heads, the quantile `pruned`; each head's count of channels at or above it is then
    rounded to the nearest multiple of `align`, and its most important ones are kept. Ties at the threshold are all
    counted, so importances must be spread. Raises ValueError for a share outside [0, 1], or an align that does not fit.
    """
    if not 0 <= pruned <= 1:
        raise ValueError(f"pruned must be a share in [0, 1]; it is {pruned}.")
    if align < 1 or importance.shape[-1] % align:
        raise ValueError(f"align must divide head_dim; it is {align} for channels of {importance.shape[-1]}.")
    if pruned == 1:
        return torch.zeros_like(importance, dtype=torch.bool)
    threshold = importance.double().flatten().quantile(pruned)
    count = (importance.double() >= threshold).sum(-1, keepdim=True)
    count = (count + align // 2) // align * align
    return keep_top(importance, count)


def keep_top(importance, count):
    """The `count` most important channels of each head: bool of importance's shape. count: a number, or one a head."""
    return importance.argsort(dim=-1, descending=True, stable=True).argsort(-1) < count


@dataclass(frozen=True)
class Plan:
    """How a layer's heads are laid out in a cache: those with equally many channels lie together.

    order: int64 [key_heads], the key heads by falling count; channels: an int64 [heads, count] for each group, in that
    order. The heads left over at the end keep none.
    """

    order: torch.Tensor
    channels: tuple

    @property
    def groups(self):
        """(heads, count) of each group, those without channels left out."""
        return [tuple(each.shape) for each in self.channels]


def plan(kept):
    """The Plan of a mask. kept: bool [key_heads, head_dim]."""
    if kept.dtype != torch.bool or kept.ndim != 2:
        raise ValueError(f"a mask is bool [key_heads, head_dim]; it is {kept.dtype}, {tuple(kept.shape)}.")
    count = kept.sum(-1)
    order = count.argsort(descending=True, stable=True)
    sizes = sorted({each for each in count.tolist() if each}, reverse=True)
    heads = [order[count[order] == each] for each in sizes]
    return Plan(order, tuple(kept[each].nonzero()[:, 1].view(len(each), -1) for each in heads))


def permute_heads(mixer, order):
    """Put a mixer's key heads, and the query heads that read each, in `order`, in place: it computes what it did.

    Rows of query, key and value projections move, and the columns of the output projection with them.
    """
    sizes = mixer.sizes
    wide = sizes.heads // sizes.key_value_heads * sizes.head_dim  # rows of all query heads that share a key head
    of_key = (order[:, None] * sizes.head_dim + torch.arange(sizes.head_dim)).flatten()
    of_query = (order[:, None] * wide + torch.arange(wide)).flatten()
    with torch.no_grad():
        for name, rows in (("query", of_query), ("key", of_key), ("value", of_key)):
            weight = getattr(mixer, name).weight
            weight.copy_(weight[rows.to(weight.device)])
        mixer.output.weight.copy_(mixer.output.weight[:, of_query.to(mixer.output.weight.device)])


def deploy(model, kept):
    """(a copy of the model with its heads permuted, the Plan of each layer). kept: bool [layers, key_heads, head_dim].

    Raises ValueError for a mask of another shape, or a model whose attention has a window: it has no far middle.
    """
    sizes = model.sizes
    wanted = (sizes.layers, sizes.key_value_heads, sizes.head_dim)
    if tuple(kept.shape) != wanted:
        raise ValueError(f"the mask must be [layers, key_heads, head_dim], {wanted}; it is {tuple(kept.shape)}.")
    if sizes.window is not None:
        raise ValueError(f"channels are pruned where attention is whole; this model has a window of {sizes.window}.")
    model, plans = copy.deepcopy(model), [plan(layer) for layer in kept.cpu()]
    for block, each in zip(model.blocks, plans, strict=True):
        permute_heads(block.mixer, each.order)
    return model, plans


def new_states(model, plans, batch=1, *, sinks=4, recent=32, chunk=16):
    """An empty ChannelCache for each layer of a deployed model: what `model(tokens, states)` decodes with."""
    like, sizes = model.head.weight, model.sizes
    return [
        ChannelCache(
            each, batch, sizes.context, sizes.head_dim, sinks=sinks, recent=recent, chunk=chunk, dtype=like.dtype,
            device=like.device,
        )
        for each in plans
    ]  # fmt: skip


def grouped(query, dense_key, dense_value, keys, values, channels, *, scale):
    """One decoded token by groups of heads: the whole keys, then each group's kept channels, merged (eq. merge).

    Shapes as in `decode`; the half precisions are computed in float32. Returns a Part.
    """
    group, settings = query.shape[1] // dense_key.shape[1], dict(causal=False, scale=scale, implementation="torch")
    whole = attention_part(query, dense_key, dense_value, **settings)
    outputs, sums, first = [], [], 0
    for key, value, kept in zip(keys, values, channels, strict=True):
        heads = slice(first, first + key.shape[1] * group)
        part, first = Part(*(each[:, heads] for each in whole)), heads.stop
        if key.shape[2]:
            index = kept.repeat_interleave(group, 0)[None, :, None].expand(query.shape[0], -1, 1, -1)
            narrow = query[:, heads].gather(-1, index)
            part = merge([part, attention_part(narrow, key, value, **settings)])
        outputs.append(part.output)
        sums.append(part.log_sum_exp)
    outputs.append(whole.output[:, first:])  # heads without a channel have no middle
    sums.append(whole.log_sum_exp[:, first:])
    return Part(torch.cat(outputs, 1).to(query.dtype), torch.cat(sums, 1))


def _decode_on_cpu(query, dense_key, dense_value, keys, values, channels, scale, implementation):
    tensors = (query, dense_key, dense_value, keys, values, channels)
    if implementation == "triton":
        return run_decode(*tensors, scale, implementation)
    return tuple(grouped(*tensors, scale=scale))


try:  # where triton is not installed the grouped form serves alone
    from kernels.channels.operators import channels_decode, run_decode
except ModuleNotFoundError as missing:
    if missing.name != "triton":
        raise
    channels_decode = None
else:
    channels_decode.register_kernel("cpu")(_decode_on_cpu)


def decode(query, dense_key, dense_value, keys, values, channels, *, scale=None, implementation=None):
    """Attention of one token over a pruned cache. query: [batch, heads, 1, head_dim], heads in the order of a Plan.

    dense_key, dense_value: [batch, key_heads, tokens, ...], sinks and recent; keys, values: of each group the middle,
    [batch, heads of the group, tokens, count] and [..., value_dim]; channels: its int64 [heads of the group, count].
    implementation: "torch" (grouped), "triton" (interpreted without a GPU); None lets the device pick. Returns a Part.
    Raises ValueError for shapes that do not fit, RuntimeError for "triton" where no kernel runs.
    """
    _check_decode(query, dense_key, keys, values, channels)
    if implementation not in (None, "torch", "triton"):
        raise ValueError(f"implementation must be 'torch', 'triton' or None; it is {implementation!r}.")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    tensors = query, dense_key, dense_value, list(keys), list(values), list(channels)
    if implementation == "triton" and channels_decode is None:
        require_kernels()
    if channels_decode is None or (query.device.type != "cpu" and implementation == "torch"):
        return grouped(*tensors, scale=scale)
    return Part(*channels_decode(*tensors, scale, implementation or "device"))


def _check_sizes(sinks, recent, chunk):
    if sinks < 0 or recent < 1 or chunk < 1:
        raise ValueError(f"sinks must be 0 or more, recent and chunk 1 or more; got {sinks}, {recent} and {chunk}.")


def _check_decode(query, dense_key, keys, values, channels):
    """Raise ValueError with one sentence unless query, dense region and groups fit each other."""
    if query.ndim != 4 or query.shape[2] != 1:
        raise ValueError(f"query must be [batch, heads, 1, head_dim]; its shape is {tuple(query.shape)}.")
    if dense_key.shape[2] == 0 or query.shape[1] % dense_key.shape[1]:
        raise ValueError(
            f"the dense region needs a token, and key heads that divide {query.shape[1]}; "
            f"its shape is {tuple(dense_key.shape)}."
        )
    sizes = len(keys), len(values), len(channels)
    if len(set(sizes)) > 1:
        raise ValueError(f"each group has a key, a value and channels; got {sizes}.")
    for key, value, kept in zip(keys, values, channels, strict=True):
        if key.shape[:3] != value.shape[:3] or kept.shape != (key.shape[1], key.shape[3]):
            raise ValueError(
                f"a group's key, value and channels must agree; got {tuple(key.shape)}, {tuple(value.shape)}, "
                f"{tuple(kept.shape)}."
            )
    if sum(key.shape[1] for key in keys) > dense_key.shape[1]:
        raise ValueError(f"the groups hold more heads than the {dense_key.shape[1]} of the dense region.")


class ChannelCache(State):
    """Keys and values of the tokens so far: sinks and recent whole, the middle by groups of heads, kept channels only.

    The heads that come in are in the order of the plan. When sinks + recent + chunk tokens lie in the dense region, the
    oldest `chunk` after the sinks move to the middle; heads without a channel drop them, keys and values. A prompt is
    read with whole attention, and pruned afterwards.
    """

    grows = True

    def __init__(
        self, plan, batch, capacity, head_dim, value_dim=None, *, sinks=4, recent=32, chunk=16,
        dtype=torch.float32, device=None, implementation=None,
    ):  # fmt: skip
        _check_sizes(sinks, recent, chunk)
        self.sinks, self.recent, self.chunk, self.implementation = sinks, recent, chunk, implementation
        self.channels = [each.to(device) for each in plan.channels]
        value_dim, place = value_dim or head_dim, dict(dtype=dtype, device=device)
        whole = min(capacity, sinks + recent + chunk)
        self.dense = KeyValueCache(batch, len(plan.order), whole, head_dim, value_dim, **place)
        far = max(0, capacity - sinks - recent)
        self.groups = [KeyValueCache(batch, heads, far, count, value_dim, **place) for heads, count in plan.groups]
        self.length, self.capacity = 0, capacity

    def attend(self, query, key, value):
        """Take in new tokens and return their attention, [batch, heads, new, value_dim]. ValueError past capacity."""
        require_fit("key", key, self.dense.key)
        require_fit("value", value, self.dense.value)
        if self.length + key.shape[2] > self.capacity:
            raise ValueError(
                f"the cache holds {self.length} of {self.capacity} tokens; {key.shape[2]} more do not fit."
            )
        if self.length and key.shape[2] > 1:  # after a prompt, tokens come one at a time
            tokens = zip(*(each.split(1, 2) for each in (query, key, value)), strict=True)
            return torch.cat([self.attend(*token) for token in tokens], 2)
        self.take_in(key, value)
        if key.shape[2] > 1:
            return attention(query, key, value)
        return self.read(query)

    def read(self, query):
        """Attention of one query a head over all that the cache holds, [batch, heads, 1, value_dim]."""
        keys, values = [each.key for each in self.groups], [each.value for each in self.groups]
        tensors = query, self.dense.key, self.dense.value, keys, values, self.channels
        return decode(*tensors, implementation=self.implementation).output

    def take_in(self, key, value):
        """Append to the dense region; once that is full, move whole chunks of its oldest tokens to the middle."""
        self.length += key.shape[2]
        if self.dense.length + key.shape[2] < self.sinks + self.recent + self.chunk:
            self.dense.append(key, value)
            return
        key, value = torch.cat([self.dense.key, key], 2), torch.cat([self.dense.value, value], 2)
        moved = max(0, key.shape[2] - self.sinks - self.recent) // self.chunk * self.chunk
        old, first = slice(self.sinks, self.sinks + moved), 0
        for kept, group in zip(self.channels, self.groups, strict=True):
            heads = slice(first, first + len(kept))
            index = kept[None, :, None].expand(key.shape[0], -1, moved, -1)
            group.append(key[:, heads, old].gather(-1, index), value[:, heads, old])
            first = heads.stop
        self.dense.length = 0
        self.dense.append(*(torch.cat([each[:, :, : old.start], each[:, :, old.stop :]], 2) for each in (key, value)))

    def reorder(self, rows):
        for each in (self.dense, *self.groups):
            each.reorder(rows)
        return self

    def crop(self, length):
        """As `State.crop`, back to the last time that a chunk was pruned: its channels are gone."""
        self._require_reached(length)
        if max(0, length - self.sinks - self.recent) // self.chunk * self.chunk < self.middle:
            raise ValueError(
                f"a cache whose middle holds {self.middle} pruned tokens cannot be cropped to {length}: "
                "their channels are gone. Copy it before a draft, and go on with the copy."
            )
        self.dense.crop(self.dense.length - (self.length - length))
        self.length = length
        return self

    @property
    def middle(self):
        """Tokens in the middle."""
        return self.groups[0].length if self.groups else self.length - self.dense.length

    @property
    def nbytes(self):
        """Bytes reserved, filled or not."""
        return self.dense.nbytes + sum(group.nbytes for group in self.groups)

    @property
    def kept_bytes(self):
        """Bytes of keys and values that the next decoded token reads: what is filled."""
        return sum(each.kept_bytes for each in (self.dense, *self.groups))
