"""The hidden cases of the chapter on rectified sparse attention."""

import itertools
import math

import torch

from effattn_core import costs
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise, random
from effattn_core.rectified import block_bounds, bound_scores
from effattn_core.rectified.costs import ACTIVE, BLOCK_SIZE, PERIOD, share


def _keys(time, seed=0, heads=2, head_dim=6):
    generator = torch.Generator().manual_seed(seed + time)
    return torch.randn(1, heads, time, head_dim, dtype=torch.float64, generator=generator)


@exercise("rectified.by_hand", level="pencil")
def by_hand(answer):
    """The bound of the keys (2, 1), (0, -1), (1, 2) for the query (2, -1), scale 1."""
    query = torch.tensor([2.0, -1.0])[None, None, None]
    key = torch.tensor([[2.0, 1.0], [0.0, -1.0], [1.0, 2.0]])[None, None]
    wanted = bound_scores(query, *block_bounds(key, 3), scale=1.0).item()
    mistakes = [
        ((query @ key.mT).max().item(), "That is the score of the best key: to know it, the block has to be read."),
        (2.0, "That is the corner of the highest numbers: where the query is negative, the lowest counts."),
        (1.0, "That is the corner of the lowest numbers: where the query is positive, the highest counts."),
    ]
    return compare_number(answer, wanted, mistakes)


@exercise("rectified.teeth", level="pencil")
def teeth(answer):
    """The first tooth over the eighth: 128 exact rows, a pass every 32, equally long rows that are equally wrong."""
    first, last = (math.sqrt(32 / (128 + 32 * tooth)) for tooth in (1, 8))
    mistakes = [
        ((first / last) ** 2, "Norms of rows add as squares: take the root."),
        (last / first, "That is the last over the first."),
        (1.0, "As many rows are wrong each time, but they are weighed against ever more: 160 rows, then 384."),
        (math.sqrt(8), "The cache does not begin empty: its first 128 rows are exact, and count in the norm."),
    ]
    return compare_number(answer, first / last, mistakes)


def token_ratio(context=131072):
    """Bytes of a dense token over those of one by ReSA, the weights included: Llama 3 8B."""
    cache, whole = (of(costs.LLAMA_8B, context) for of in (costs.cache_bytes, costs.decode_bytes))
    return whole / (whole - cache + share(BLOCK_SIZE, ACTIVE, PERIOD).total * cache)


@exercise("rectified.whole_token", level="pencil")
def whole_token(answer):
    part = share(BLOCK_SIZE, ACTIVE, PERIOD).total
    cache, weights = costs.cache_bytes(costs.LLAMA_8B, 131072), costs.decode_bytes(costs.LLAMA_8B, 0)
    alone = (weights + cache) / (weights * (1 + 1 / PERIOD) + part * cache)
    mistakes = [
        (1 / part, "That is the cache alone: each token reads all weights too, sparse or dense."),
        (1 / token_ratio(), "That is ReSA's reading over the dense one."),
        (alone, "That is with passes run alone: here they share the reading of the weights with the next token."),
        (1 / ACTIVE, "Bounds and passes are read as well, and the weights."),
    ]
    return compare_number(answer, token_ratio(), mistakes)


@exercise("rectified.bounds", level="code")
def bounds(function):
    for time, size in ((8, 4), (10, 4), (3, 8), (6, 1)):
        key = _keys(time) - 2  # below zero, so that padding by zero shows
        query = _keys(1, seed=7)[:, :, 0]  # [1, key_heads, head_dim], pooled already
        wanted = bound_scores(query[:, :, None], *block_bounds(key, size), scale=1.0)
        got = torch.as_tensor(function(query, key, size))
        if got.shape != wanted.shape:
            return f"{time} keys in blocks of {size} give scores {tuple(wanted.shape)}; got {tuple(got.shape)}."
        score = torch.einsum("bhd,bhnd->bhn", query, key)
        padded = torch.nn.functional.pad(score, (0, wanted.shape[2] * size - time), value=-math.inf)
        best = padded.unflatten(2, (-1, size)).amax(3)
        if torch.allclose(got, wanted):
            continue
        if size == 1:
            return "With one key in a block the bound is the score of that key: compare with query · key."
        if torch.allclose(got, best):
            return "That reads every key of the block and takes the best score; the bound may read two vectors alone."
        whole = time // size
        if time % size and whole and torch.allclose(got[..., :whole], wanted[..., :whole]):
            return "All blocks but the ragged last one are right: what stands in for the keys that are not there?"
        if (got < best - 1e-9).any():
            return "A key scores above its block's bound: where the query's number is negative, the lowest key counts."
        return f"The bound holds, but is not the closest: it is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("rectified.rewound", level="code")
def rewound(function):
    """The reader mends what is known of the blocks after the newest keys were overwritten."""
    for time, count, size in ((12, 4, 4), (13, 5, 4), (9, 9, 4), (16, 1, 8)):
        wrong = _keys(time).clone()
        wrong[:, :, time - count :] *= 50 if time % 2 == 0 else 0.02  # bounds too wide, or too narrow
        key = _keys(time, seed=3)
        key[:, :, : time - count] = wrong[:, :, : time - count]
        old = block_bounds(wrong, size)
        wanted, first = block_bounds(key, size), (time - count) // size
        lowest, highest = (each.clone() for each in old)
        poison = key.clone()
        poison[:, :, : first * size] = math.nan  # blocks that no newest token touches need not be read
        got = function(lowest, highest, poison, count, size)
        if got is None or len(got) != 2:
            return "Return (lowest, highest), mended."
        if any(a.shape != b.shape for a, b in zip(got, wanted, strict=True)):
            return f"Bounds of {time} keys in blocks of {size} are {tuple(wanted[0].shape)}; got {tuple(got[0].shape)}."
        if all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True)):
            continue
        if any(each.isnan().any() for each in got):
            return "A block was made anew that no rectified token lies in: only those that hold one must change."
        if torch.equal(got[0], old[0]) and torch.equal(got[1], old[1]):
            return "Nothing changed: the newest keys were overwritten, and their blocks' bounds must follow."
        wide = all((a <= b + 1e-12).all() for a, b in ((got[0], wanted[0]), (wanted[1], got[1])))
        if wide:
            return (
                "The bounds still hold, but are too wide: a running minimum cannot forget a key that is gone. Make the "
                "blocks that were touched anew, from their keys."
            )
        return f"Of {time} keys {count} were rectified, blocks of {size}: a key lies outside its block's bounds."
    return None


def _fastest(budget, sizes, actives, periods):
    def share(triple):
        return 1 / triple[0] + triple[1] + 1 / triple[2]

    inside = [triple for triple in itertools.product(sizes, actives, periods) if share(triple) <= budget + 1e-12]
    return inside, share


@exercise("rectified.budget", level="code")
def budget(function):
    """The reader spends a budget of bytes: the most blocks read, then the most frequent rectification."""
    grids = ((16, 32, 64), (0.05, 0.1, 0.2, 0.4), (8, 16, 32, 64))
    for limit in (0.2, 0.3, 0.5, 0.07):
        inside, share = _fastest(limit, *grids)
        wanted = max(inside, key=lambda triple: (triple[1], -triple[2], -triple[0]), default=None)
        got = function(limit, *grids)
        if wanted is None:
            if got is not None:
                return f"Nothing fits in {limit:.0%} of the cache: return None; got {got}."
            continue
        if got is None:
            return f"Something fits in {limit:.0%}: {wanted} reads {share(wanted):.1%}."
        got = tuple(got)
        if got not in inside:
            parts = f"1/{got[0]} + {got[1]} + 1/{got[2]}" if len(got) == 3 else str(got)
            return f"{parts} is more than {limit:.0%} of the cache, or not of the grid."
        if got[1] < wanted[1]:
            return f"{got} fits in {limit:.0%}, but blocks could be read more: {wanted} fits too."
        if got != wanted:
            return f"{got} reads as many blocks as {wanted}: then rectify most often, then take small blocks."
    return None


@exercise("rectified.pooling", level="code")
def pooling(function):
    """The reader builds two query heads of one group that cancel when they are pooled."""
    query, key = (torch.as_tensor(each).double() for each in function())
    if query.ndim != 2 or key.ndim != 2 or query.shape[0] != 2 or query.shape[1] != key.shape[1] or len(key) < 3:
        given = f"{tuple(query.shape)} and {tuple(key.shape)}"
        return f"Return query [2, head_dim] and key [3 or more, head_dim]; got {given}."
    own = query @ key.T
    first, second = own.argmax(1).tolist()
    if first == second:
        return f"Both heads want key {first}: let them want different ones."
    chosen = (query.mean(0) @ key.T).argmax().item()
    if chosen in (first, second):
        return f"The pooled query chooses key {chosen}, which a head wants: make both lose."
    if (own.softmax(1)[[0, 1], [first, second]] < 0.9).any():
        return "A head's attention is spread out: let each put nine tenths or more on its own key (scale 1)."
    return None


@kernel_exercise("rectified.scores")
def scores():
    """The launcher of a kernel: float32 query [head_dim], lowest and highest [blocks, head_dim] give [blocks]."""

    def case(blocks, head_dim):
        query, (low, wide) = random(head_dim), random(2, blocks, head_dim)
        low, high = low - 1, low - 1 + wide.abs()
        lowest, highest = query.double() * low, query.double() * high
        wanted = torch.maximum(lowest, highest).sum(-1).float()
        corners = torch.maximum(lowest.sum(-1), highest.sum(-1))
        mistakes = [
            (highest.sum(-1).float(), "where the query's number is negative, the lowest key counts."),
            (corners.float(), "the maximum is taken of two sums: take it in each dimension, then sum."),
        ]
        hint = "is it the larger product in each dimension, summed over dimensions?"
        what, stray = f"bounds [{blocks}, {head_dim}]", "mask the lanes past the last block."
        return Case(what, (query, low, high), wanted, mistakes=mistakes, hint=hint, stray=stray)

    return [case(*sizes) for sizes in ((70, 16), (1, 32), (8, 16), (33, 64))]


@exercise("rectified.any_head", level="open")
def any_head(function):
    """The scores of a group's one list, by the head that wants a block most: [heads, D], twice [blocks, D]."""
    for heads, blocks in ((2, 3), (4, 9), (1, 5)):
        generator = torch.Generator().manual_seed(heads)
        query = torch.randn(heads, 6, dtype=torch.float64, generator=generator)
        low, wide = torch.randn(2, blocks, 6, dtype=torch.float64, generator=generator)
        high = low + wide.abs()
        each = torch.maximum(query[:, None] * low, query[:, None] * high).sum(-1)  # [heads, blocks]
        got = torch.as_tensor(function(query, low, high))
        if tuple(got.shape) != (blocks,):
            return f"{heads} heads share one list: {blocks} scores are wanted, [{blocks}]; got {list(got.shape)}."
        if torch.allclose(got, each.amax(0)):
            continue
        mean = query.mean(0)
        if torch.allclose(got, torch.maximum(mean * low, mean * high).sum(-1)):
            return "That is the bound of the mean query, in which heads that disagree cancel."
        if torch.allclose(got, each.mean(0)) or torch.allclose(got, each.sum(0)):
            return "That is the mean of the heads' bounds, or their sum: one head that wants a block is outvoted."
        return f"With {heads} heads a score is off by {(got - each.amax(0)).abs().max():.2g}."
    return None
