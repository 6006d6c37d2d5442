"""The hidden cases of the exercises on pruned key channels."""

import math

import torch

from effattn_core.attention import oracle as dense
from effattn_core.channels import build_mask
from effattn_core.exercises import exercise


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@exercise("channels.mask", level="code")
def mask(function):
    for layers, heads, head_dim, pruned, align in ((2, 3, 8, 0.5, 1), (3, 4, 32, 0.7, 8), (2, 2, 16, 0.3, 4)):
        importance = _random(layers, heads, head_dim, seed=head_dim).abs() * torch.arange(1.0, heads + 1)[:, None]
        wanted = build_mask(importance, pruned, align)
        got = function(importance, pruned, align)
        if got.shape != wanted.shape or got.dtype != torch.bool:
            return f"The mask is {got.dtype}, {tuple(got.shape)}; it must be torch.bool, {tuple(wanted.shape)}."
        if torch.equal(got, wanted):
            continue
        counts, right = got.sum(-1), wanted.sum(-1)
        if (counts % align).any():
            return f"A head keeps {counts[counts % align != 0][0]} channels, which is no multiple of {align}."
        if torch.equal(counts, right):
            return "The counts are right, the channels are not: keep the most important of each head."
        exact = (importance >= importance.flatten().quantile(pruned)).sum(-1)
        if torch.equal(counts, exact // align * align):
            return f"Counts are rounded down; round to the nearest multiple of {align}, or less than asked is kept."
        if len(counts.unique()) == 1:
            return "All heads keep equally many: take one threshold over all layers and heads, not one per head."
        return f"The counts are {counts.tolist()}; they should be {right.tolist()}."
    return None


def _attend(hidden, query, key, value, output, head_dim):
    """A layer of causal attention from its weight matrices, without positions."""
    heads = [(hidden @ each.mT).unflatten(-1, (-1, head_dim)).transpose(1, 2) for each in (query, key, value)]
    mixed = dense(*heads, scale=head_dim**-0.5).output
    return mixed.transpose(1, 2).flatten(2) @ output.mT


@exercise("channels.permute", level="code")
def permute(function):
    for key_heads, group, order in ((2, 1, [1, 0]), (3, 2, [2, 0, 1]), (4, 3, [3, 1, 0, 2])):
        head_dim, width = 4, 10
        shapes = (group * key_heads, key_heads, key_heads)
        weights = [_random(heads * head_dim, width, seed=heads) for heads in shapes]
        weights.append(_random(width, group * key_heads * head_dim, seed=9))
        hidden, order = _random(1, 6, width), torch.tensor(order)
        wanted = _attend(hidden, *weights, head_dim)
        moved = function(*(each.clone() for each in weights), order, head_dim)
        for name, given, made in zip(("query", "key", "value", "output"), weights, moved, strict=True):
            if made.shape != given.shape:
                return f"The {name} weight is {tuple(made.shape)}; it must stay {tuple(given.shape)}."
        key = weights[1].unflatten(0, (key_heads, -1))[order].flatten(0, 1)
        if not torch.equal(moved[1], key):
            return "Rows of the key weight should be whole heads of head_dim, head order[0] first."
        if torch.allclose(_attend(hidden, *moved, head_dim), wanted):
            continue
        if torch.equal(moved[3], weights[3]):
            return "The output weight has not moved: its *columns* follow the query heads."
        if group > 1 and not torch.equal(moved[0], weights[0].unflatten(0, (key_heads, -1))[order].flatten(0, 1)):
            return f"Each key head is read by {group} query heads in a row: they must move together."
        return f"With {key_heads} key heads in the order {order.tolist()} the layer's output has changed."
    return None


@exercise("channels.empty", level="code")
def empty(function):
    for whole, far in (([4.0] * 132, 8192), ([1.0, 2.0, 0.5], 10), ([0.0], 3)):
        logits = torch.tensor(whole, dtype=torch.float64)
        got = [float(each) for each in function(logits, far)]
        total = logits.exp().sum().item()
        wanted = [far / (far + total), 0.0]
        if len(got) != 2:
            return f"Return two shares, as trained and as deployed; got {len(got)}."
        if all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(got, wanted, strict=True)):
            continue
        if math.isclose(got[0], far / (far + len(whole)), abs_tol=1e-9):
            return "That counts tokens: a token weighs exp of its logit, and one of the middle exp(0)."
        if math.isclose(got[0], 0.0, abs_tol=1e-9):
            return "A logit of 0 is not a weight of 0: as trained, each token of the middle weighs exp(0) = 1."
        if got[1] > 0:
            return f"As deployed the middle is removed: its share is 0, not {got[1]:.3g}."
        return f"As trained the middle takes {wanted[0]:.3g} of the mass here; got {got[0]:.3g}."
    return None


@exercise("channels.bytes", level="code")
def bytes_read(function):
    for seed, heads, head_dim in ((0, 8, 128), (1, 4, 64), (2, 6, 32)):
        quarters = torch.randint(0, 5, (heads,), generator=torch.Generator().manual_seed(seed))
        quarters[0] = 0
        counts = (quarters * head_dim // 4).tolist()
        kept, missing = sum(counts) / (heads * head_dim), counts.count(0) / heads
        wanted, got = (kept + 1 - missing) / 2, float(function(counts, head_dim))
        if math.isclose(got, wanted, rel_tol=1e-9):
            continue
        if math.isclose(got, (kept + 1) / 2, rel_tol=1e-9):
            return "Heads without a channel drop their values too: subtract their share."
        if math.isclose(got, kept, rel_tol=1e-9) or math.isclose(got, kept * (1 - missing), rel_tol=1e-9):
            return "Those are the keys alone; values are the other half of the cache, and are not pruned."
        return f"With counts {counts} of {head_dim} the share is {wanted:.4g}; got {got:.4g}."
    return None
