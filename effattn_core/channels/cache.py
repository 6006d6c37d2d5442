"""A cache of pruned channels, and a model that decodes with it: heads in the order of a Plan, one state per layer."""

import copy

import torch

from effattn_core import calls
from effattn_core.attention import attention
from effattn_core.channels.interface import answer, require_region
from effattn_core.channels.masks import Plan, plan
from effattn_core.states import KeyValueCache, State, require_fit


def permute_heads(mixer: torch.nn.Module, order: torch.Tensor) -> None:
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


def deploy(model: torch.nn.Module, kept: torch.Tensor) -> tuple[torch.nn.Module, list[Plan]]:
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


def new_states(
    model: torch.nn.Module, plans: list[Plan], batch: int = 1, *, sinks: int = 4, recent: int = 32, chunk: int = 16
) -> list["ChannelCache"]:
    """An empty ChannelCache for each layer of a deployed model: what `model(tokens, states)` decodes with."""
    like, sizes = model.head.weight, model.sizes
    return [
        ChannelCache(
            each, batch, sizes.context, sizes.head_dim, sinks=sinks, recent=recent, chunk=chunk, dtype=like.dtype,
            device=like.device,
        )
        for each in plans
    ]  # fmt: skip


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
        require_region(sinks, recent, chunk)
        calls.require_implementation(implementation)
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
        return answer(*tensors, scale=query.shape[3] ** -0.5, implementation=self.implementation).output

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
