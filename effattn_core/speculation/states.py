"""A cache that reads a tree of drafts in one pass and keeps the path that won: another state of the same model."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.positions import speeds
from effattn_core.speculation.products import MANY
from effattn_core.states import KeyValueCache, sees_all


@dataclass(frozen=True)
class Branch:
    """How the next rows of a tree are read, made once for all layers.

    visible: bool [new, rows], who sees which row of the cache, the text's rows before the tree and the new rows at the
    end included. cosine, sine: [new, head_dim / 2], the angle between the position at which a row would stand in a
    text and that of its depth: rotary angles add up, so keys and queries that the layer has turned are turned on.
    """

    visible: torch.Tensor
    cosine: torch.Tensor
    sine: torch.Tensor

    @classmethod
    def of(cls, sizes, length, first, depth, seen):
        """The Branch of new rows of a tree that begins after `length` words.

        first: where the new rows begin in the cache. depth: int64 [new], so that a row stands at position
        length + depth. seen: bool [new, first - length + new], who sees which row of the tree.
        """
        speed = speeds(sizes.head_dim, sizes.rotary_base, torch.empty(0))
        if sizes.rotary_speeds is not None:
            speed = torch.tensor(sizes.rotary_speeds)
        new = len(depth)
        angle = (length + depth - first - torch.arange(new))[:, None] * speed
        before = torch.ones(new, length, dtype=torch.bool)
        return cls(torch.cat([before, seen], 1), angle.cos(), angle.sin())

    def turned(self, tensor):
        """Rows, [batch, heads, new, head_dim], turned on to their depths."""
        even, odd = tensor[..., 0::2], tensor[..., 1::2]
        turned = even * self.cosine - odd * self.sine, even * self.sine + odd * self.cosine
        return torch.stack(turned, -1).flatten(-2)


class TreeCache(KeyValueCache):
    """A KeyValueCache whose new rows are a stretch of text, or, where `branch` is set, nodes of a tree.

    A few rows go straight to PyTorch's attention: what `attention` does besides takes longer than their products.
    """

    branch = None

    def attend(self, query, key, value):
        new = query.shape[2]
        if self.branch is None and new > MANY:
            return super().attend(query, key, value)
        if self.branch is not None:
            query, key, seen = self.branch.turned(query), self.branch.turned(key), self.branch.visible
        else:
            seen = None if new == 1 else torch.ones(new, self.length + new, dtype=torch.bool).tril(self.length)
        self.append(key, value)
        return functional.scaled_dot_product_attention(query, self.key, self.value, attn_mask=seen, enable_gqa=True)

    def keep(self, length, rows):
        """Go on after `length` words with `rows` of the tree alone, a list that counts from there: what won."""
        place = length + torch.tensor(rows, dtype=torch.int64)
        if rows and (rows[0] < 0 or place[-1] >= self.length or (place.diff() <= 0).any()):
            raise ValueError(f"rows must rise within the {self.length - length} after the text; they are {rows}.")
        if rows != list(range(len(rows))):
            end = length + len(rows)
            self._key[:, :, length:end], self._value[:, :, length:end] = (
                self._key[:, :, place],
                self._value[:, :, place],
            )
        return self.crop(length + len(rows))


def tree_states(model, capacity=None, layers=None):
    """A TreeCache for each of the first `layers` layers of a model of plain attention, all of them by default.

    capacity: words and drafts that each holds; None for the model's context and 64 drafts. Raises ValueError for a
    model whose layers have windows, or are no attention: a tree of drafts cannot be read by them.
    """
    sizes = model.sizes
    if not sees_all(sizes):
        raise ValueError(
            "a tree of drafts is read by a model of plain attention that sees everything; this one is not."
        )
    like = model.head.weight
    if like.device.type != "cpu":
        raise ValueError(f"drafts are verified on a CPU here; the model is on {like.device}.")
    shape = (1, sizes.key_value_heads, capacity or sizes.context + 64, sizes.head_dim)
    return [TreeCache(*shape, dtype=like.dtype) for _ in range(sizes.layers if layers is None else layers)]


def branch_out(states, branch):
    """Set how all `states` read their next rows; None for a stretch of text."""
    for state in states:
        state.branch = branch
