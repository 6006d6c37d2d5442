"""What a trained model loses when its first tokens leave the window, and where its heads rest: SmolLM2, as recorded.

The recording is made by book/measurements/attention/run_smollm2.py: 4,096 tokens of the plays, read with every key,
with a window, and with a window and sinks that keep as many keys together.
"""

import functools
from statistics import fmean
from typing import NamedTuple

from effattn_core.recordings import measured

WHOLE = "every key"  # the reading without a window, beside which the others are held


class Reading(NamedTuple):
    """One way to read the text: what it sees, and its losses in nats per token, a mean per bucket of tokens.

    window, sinks: None and 0 where every key is seen. passages: [passages][buckets].
    """

    window: int | None
    sinks: int
    passages: tuple

    @property
    def keys(self):
        """The keys that a late query sees, None for all before it."""
        return self.window and self.window + self.sinks


@functools.cache
def recorded():
    """(tokens per bucket, the Reading of each name) of the recording attention/smollm2-cpu."""
    rows = measured("attention/smollm2-cpu", what="window")
    readings = {}
    for row in rows:
        name = row["name"]
        before = readings[name].passages if name in readings else ()
        readings[name] = Reading(row.get("window"), row.get("sinks", 0), (*before, tuple(row["losses"])))
    return rows[0]["bucket"], readings


def kept():
    """The keys that the windowed readings keep, sinks included: the same number for each of them."""
    (count,) = {reading.keys for reading in recorded()[1].values()} - {None}
    return count


def dearer(name):
    """How much more each bucket costs than with every key, in nats per token: [passages][buckets]."""
    readings = recorded()[1]
    pairs = zip(readings[name].passages, readings[WHOLE].passages, strict=True)
    return [[loss - whole for loss, whole in zip(*pair, strict=True)] for pair in pairs]


def lost(name):
    """Nats per token that a reading loses where the text is longer than its window: the mean of each passage."""
    first = kept() // recorded()[0]
    return [fmean(passage[first:]) for passage in dearer(name)]


def given_back(name, bare="window of 256"):
    """The share of what the bare window loses that a reading with sinks does not lose, of all passages together."""
    return 1 - fmean(lost(name)) / fmean(lost(bare))


@functools.cache
def resting():
    """The share of each head's attention on the first token, late in the text: [layers][heads], mean of passages."""
    layers = {}
    for row in measured("attention/smollm2-cpu", what="sink"):
        layers.setdefault(row["layer"], []).append(row["first"])
    return tuple(tuple(map(fmean, zip(*layers[layer], strict=True))) for layer in sorted(layers))
