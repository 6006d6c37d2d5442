"""Quality against bytes: every way of reading a long cache on one figure, at equal bytes per decoded token.

Ways live with their topic: each `<topic>/frontier.py` has a list WAYS, and is found by its name.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from effattn_core import topic_modules
from effattn_core.reader import LAGS
from effattn_core.states import KeyValueCache


@dataclass(frozen=True)
class Way:
    """One way of reading. make: (dial, shape) -> an empty cache with `append`, `look` and `step_bytes`.

    dial: from 0, as little as the way can read, to 1, everything: the bytes must not fall as it rises, and at 1 the
    result must be dense attention. shape: (batch, key_heads, capacity, head_dim). extra: what the way reads beside its
    steps, as a share of the cache per token; period: tokens between rectifications, which `extra` then pays for.
    """

    name: str
    words: str
    make: Callable
    extra: float = 0.0
    period: int = 0


def ways():
    """All ways, topic by topic."""
    return [way for module in topic_modules("frontier") for way in module.WAYS]


def filled(way, dial, reader, text):
    """A cache of this way that holds all of `text`, as a `Reader` writes it."""
    return reader.fill(way.make(dial, (1, reader.key_heads, len(text), reader.head_dim)), text)


def dense_bytes(reader, text):
    """Bytes that dense decoding reads for a token after `text`: all keys and values, in float32."""
    return 2 * 4 * reader.key_heads * len(text) * reader.head_dim


def share_read(way, cache, queries, whole):
    """Bytes per token over `whole`, those of dense decoding: the mean over `queries`, extra reads included."""
    read = []
    for query in queries:
        cache.look(query)
        read.append(sum(cache.step_bytes().values()))
    return statistics.fmean(read) / whole + way.extra


def at_budget(way, budget, reader, text, queries, *, steps=8):
    """(cache, dial, share): the most that the way may read without passing `budget`.

    Root search that alternates linear interpolation (most methods' bytes are linear in the dial) and bisection (some
    are not). Returns None where even its least reads more.
    """
    cache, whole = filled(way, 0.0, reader, text), dense_bytes(reader, text)
    low, least = 0.0, share_read(way, cache, queries, whole)
    if least > budget:
        return None
    high, most, found = 1.0, least + 1.0, (cache, low, least)
    for step in range(steps):
        dial = low + (high - low) * ((budget - least) / (most - least) if step % 2 == 0 else 0.5)
        cache = filled(way, dial, reader, text)
        share = share_read(way, cache, queries, whole)
        if share <= budget:
            low, least, found = dial, share, (cache, dial, share)
        else:
            high, most = dial, share
        if found[2] > 0.99 * budget:
            break
    return found


def queries_of(reader, text, first, count, stride=97):
    """(queries, letters that follow): the reader's at `count` places from `first` on, past what the cache holds."""
    places = [first + stride * number for number in range(count)]
    return [reader.query(text[place - LAGS : place]) for place in places], [int(text[place]) for place in places]


def quality(reader, cache, queries, answers, dense):
    """(KL to dense of each query in nats, mean loss): `dense` holds the dense distributions."""
    divergences, losses = [], []
    for query, answer, wanted in zip(queries, answers, dense, strict=True):
        found = reader.distribution(cache.look(query))
        divergences.append((wanted * (wanted / found).log()).sum().item())
        losses.append(-found[answer].log().item())
    return divergences, statistics.fmean(losses)


def dense_distributions(reader, cache, queries):
    """The next letter's distribution from a dense cache, per query."""
    return [reader.distribution(cache.look(query)) for query in queries]


def require_dense_at_one(way, reader, text, queries):
    """Raise RuntimeError unless a way that reads everything gives dense attention's output."""
    dense = reader.fill(KeyValueCache(1, reader.key_heads, len(text), reader.head_dim), text)
    cache = filled(way, 1.0, reader, text)
    for query in queries:
        error = (cache.look(query) - dense.look(query)).abs().max().item()
        if not error < 1e-4:
            raise RuntimeError(f"{way.name}: reading everything it must be dense; it is off by {error:.2g}.")
