"""The small pieces of a Transformer that every chapter takes for granted, each as short as its definition."""

import collections
import functools
import math
import re

import torch

from effattn_core import positions
from effattn_core.data import shakespeare


def write(keys, values):
    """The sum of kᵀv over all pairs, [key_dim, value_dim]: keys [pairs, key_dim], values [pairs, value_dim]."""
    return keys.mT @ values


def read(query, state):
    """What a query [key_dim] finds in a state [key_dim, value_dim]: the sum of (q·k) v over the pairs written."""
    return query @ state


def speeds(head_dim, base=10000.0):
    """Radians per token of the head_dim / 2 pairs, from fast to slow: base^(−2i / head_dim) for pair i.

    Raises ValueError for an odd head_dim.
    """
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim must be even, for rotary positions turn pairs; it is {head_dim}.")
    return positions.speeds(head_dim, base, torch.zeros((), dtype=torch.float64))


def turned(pair, angle):
    """A pair (x, y) turned by `angle` radians against the clock: [..., 2]."""
    x, y = pair[..., 0], pair[..., 1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.stack((x * cosine - y * sine, x * sine + y * cosine), -1)


def key_head_of(query_head, heads, key_value_heads):
    """The key-value head that a query head reads: neighbours share one.

    Raises ValueError if the key-value heads do not divide the heads, or for a query head that is none.
    """
    if heads % key_value_heads:
        raise ValueError(f"key_value_heads must divide heads; got {key_value_heads} and {heads}.")
    if not 0 <= query_head < heads:
        raise ValueError(f"query_head must lie in 0..{heads - 1}; it is {query_head}.")
    return query_head // (heads // key_value_heads)


def entropy(shares):
    """Mean surprise −Σ p ln p of a distribution, in nats; shares sum to one, zeros add nothing."""
    return torch.special.entr(shares).sum(-1)


def as_unsure_as(nats):
    """e^nats: among how many equally likely things one would be as unsure. Of a model's mean loss: its perplexity."""
    return math.exp(nats)


def tempered(shares, temperature):
    """The softmax of log shares over a temperature: below 1 sharper, above 1 flatter, 1 leaves them as they are."""
    return (shares.log() / temperature).softmax(-1)


@functools.cache
def letters_after(letter):
    """What follows a letter in the plays of Shakespeare: {letter or space: share}, the likeliest first.

    Capitals count as small letters, whatever is no letter as a space. Raises ValueError for a letter that never occurs.
    """
    counts = collections.Counter(re.findall(f"{re.escape(letter)}(?=(.))", plain_letters()))
    if not counts:
        raise ValueError(f"letter must be one that occurs in the plays, a to z or a space; it is {letter!r}.")
    total = counts.total()
    return {each: counts[each] / total for each in sorted(counts, key=lambda each: (-counts[each], each))}


@functools.cache
def plain_letters():
    """The plays of Shakespeare in small letters and single spaces, which stand for whatever is no letter: 27 signs."""
    return " ".join("".join(each if "a" <= each <= "z" else " " for each in shakespeare().lower()).split())
