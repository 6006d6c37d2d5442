"""The hidden cases of the exercises on pruned key channels."""

import math

import torch

from effattn_core.attention import oracle as dense
from effattn_core.channels import build_mask, needle
from effattn_core.channels import costs as costs_channels
from effattn_core.channels.training import by_frequency
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random


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


@exercise("channels.token_bytes", level="pencil")
def token_bytes(answer):
    heads, head_dim = costs_channels.RELEASED_COUNTS, 128
    keys, readers = sum(count * many for count, many in heads.items()), sum(heads.values()) - heads[0]
    right = 2 * (keys + head_dim * readers)
    mistakes = [
        (2 * (keys + head_dim * sum(heads.values())), "Heads that keep no channel drop their values too."),
        (2 * keys, "Those are the keys; each head that keeps any channel has 128 numbers of value as well."),
        (right // 2, "Those are numbers: bfloat16 has two bytes each."),
        (4 * head_dim * sum(heads.values()), "That is a whole token: its keys and values before the mask."),
        (4 * head_dim * readers, "That drops the empty heads alone; the others keep fewer channels of their keys."),
    ]
    return compare_number(answer, right, mistakes)


@exercise("channels.half_mass", level="pencil")
def half_mass(answer):
    whole = costs_channels.SINKS + costs_channels.TRAINED_RECENT
    mistakes = [
        (whole, "Each whole token weighs exp(4), not 1: more tokens of weight 1 are needed to balance them."),
        (whole * 4, "A logit of 4 is a weight of exp(4), not of 4."),
        (whole * 2**4, "The exponential has base e."),
        (
            whole / math.exp(4),
            "Divided the wrong way: the whole tokens weigh more, so more of the others balance them.",
        ),
    ]
    return compare_number(answer, whole * math.exp(4), mistakes)


@exercise("channels.slow_pairs", level="pencil")
def slow_pairs(answer):
    turns = [100000 * 500000 ** (-pair / 64) for pair in range(64)]
    right = sum(angle < 2 * math.pi for angle in turns)
    mistakes = [
        (64 - right, "Those are the pairs that do come round; the slow ones were asked for."),
        (2 * right, "Those are channels: a pair has two."),
        (sum(angle < 1 for angle in turns), "A whole turn is 2π, not 1 radian."),
    ]
    return compare_number(answer, right, mistakes)


@kernel_exercise("channels.pack")
def pack():
    """The thin keys of each head, channels in the order of its list."""

    def case(heads, tokens, head_dim, count):
        dice = torch.Generator().manual_seed(tokens)
        key = random(heads, tokens, head_dim)
        kept = torch.stack([torch.randperm(head_dim, generator=dice)[:count] for _ in range(heads)]).to(key.device)

        def thin(lists):
            return key.gather(-1, lists[:, None].expand(heads, tokens, count))

        own = "every head used the list of head 0: a program reads the list of its own head."
        order = "the channels are right, their order is not: it is that of the list, by which queries are gathered."
        mistakes = [
            (key[:, :, :count], "those are the first channels of each key; take those that the head's list names."),
            (thin(kept[:1].expand(heads, -1)), own),
            (thin(kept.sort().values), order),
        ]
        what = f"keys [{heads}, {tokens}, {head_dim}] and lists [{heads}, {count}]"
        hint, stray = (
            "is it the key's number at the channel that the list names?",
            "mask tokens and channels past their end.",
        )
        return Case(what, (key, kept), thin(kept), mistakes=mistakes, hint=hint, stray=stray, within=0.0)

    return [case(*sizes) for sizes in ((1, 16, 16, 8), (3, 37, 32, 8), (2, 5, 32, 24), (2, 65, 64, 1))]


@exercise("channels.rule", level="open")
def rule(function):
    """A rule without training, tried on the search for a needle: hardly worse than the slowest pairs, at two shares."""
    distances = needle.REGION["recent"], needle.TOKENS - needle.REGION["sinks"]
    shape = needle.HEADS, needle.HEAD_DIM
    got = function(needle.HEAD_DIM, needle.BASE, *distances)
    if not isinstance(got, torch.Tensor) or got.shape != shape[1:]:
        given = tuple(getattr(got, "shape", [type(got).__name__]))
        return f"Return one importance per channel, {shape[1:]}; got {given}."
    if not got.isfinite().all():
        return "An importance is not finite."
    half = needle.HEAD_DIM // 2
    if torch.equal(got[:half], got[half:]) and not torch.equal(got[0::2], got[1::2]):
        return f"Pairs are neighbours here, channels 2i and 2i + 1; yours pairs i with i + {half}."
    given = needle.texts(96, torch.Generator().manual_seed(5))
    rules = {"yours": got.expand(shape).float(), "slow": by_frequency(shape), "fast": by_frequency(shape, fastest=True)}
    for pruned in (0.3, 0.5):
        masks = {name: build_mask(each, pruned).float() for name, each in rules.items()}
        if masks["yours"].mean() > 1.02 - pruned:
            return f"With {pruned:.0%} to go {masks['yours'].mean():.0%} stay: importances tie at the threshold."
        with torch.no_grad():
            errors = {name: needle.distance(each, *given).item() for name, each in masks.items()}
        if errors["yours"] > 0.9 * errors["fast"]:
            return (
                f"With {pruned:.0%} to go the error is {errors['yours']:.3f}: your rule keeps pairs that turn too far."
            )
        if errors["yours"] > 1.15 * errors["slow"]:
            return (
                f"With {pruned:.0%} to go the error is {errors['yours']:.3f}; that of the slowest pairs is "
                f"{errors['slow']:.3f}: what do they keep that yours does not?"
            )
    return None
