"""How far back do heads look? Those of SmolLM2, a trained softmax model, as recorded; and fades beside them.

The recording holds the share of each head's attention within n tokens, the query's own among them, the first key of the
text left out: book/measurements/retention/run_smollm2.py says how it is made.
"""

import functools
import math
from statistics import fmean
from typing import NamedTuple

from effattn_core.recordings import measured

QUERIES = range(1023, 2048, 64)  # places of the tokens whose attention is recorded


class Reach(NamedTuple):
    """One head: the share within each of the recorded distances, and the tokens that hold half of its attention.

    shares: the mean of the passages. half: of that mean; halves: of each passage; infinite where more than half of the
    attention lies beyond the longest distance.
    """

    layer: int
    head: int
    shares: tuple
    half: float
    halves: tuple


@functools.cache
def recorded():
    """(distances, the Reach of each head, layer by layer), of the recording retention/smollm2-cpu."""
    rows = measured("retention/smollm2-cpu")
    distances, layers = tuple(rows[0]["distances"]), {}
    for row in rows:
        layers.setdefault(row["layer"], []).append(row["shares"])
    heads = []
    for layer, passages in sorted(layers.items()):
        for head, each in enumerate(zip(*passages, strict=True)):
            mean = tuple(fmean(shares) for shares in zip(*each, strict=True))
            halves = tuple(half_within(distances, shares) for shares in each)
            heads.append(Reach(layer, head, mean, half_within(distances, mean), halves))
    return distances, tuple(heads)


def half_within(distances, shares):
    """The tokens that hold half of the attention, a float: interpolated between distances on a logarithmic scale.

    distances, shares: both growing. The first distance where it holds half already; infinite where none does.
    """
    if shares[0] >= 0.5:
        return float(distances[0])
    for place in range(1, len(shares)):
        below, above = shares[place - 1 : place + 1]
        if above >= 0.5:
            near, far = (math.log(distance) for distance in distances[place - 1 : place + 1])
            return math.exp(near + (far - near) * (0.5 - below) / (above - below))
    return math.inf


def fading_shares(decay, distances):
    """What a fade gives the nearest n tokens of a long text where all scores are equal: 1 - decay**n."""
    return tuple(1 - decay**n for n in distances)


def equal_shares(distances, queries=QUERIES):
    """What the nearest n tokens get if a query weighs all its keys alike, the first left out: the mean over queries."""
    return tuple(fmean(min(1.0, n / place) for place in queries) for n in distances)
