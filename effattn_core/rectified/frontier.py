"""ReSA and its neighbours on the frontier of quality against bytes."""

import functools

from effattn_core.frontier import Way
from effattn_core.rectified.costs import BLOCK_SIZE, PERIOD
from effattn_core.rectified.neighbours import METHODS, cache_maker

SINKS = 4


def _blocks(method, dial, shape):
    make, settings = cache_maker(method, block_size=BLOCK_SIZE, active=dial, least=1)
    return make(*shape, **settings)


def _window(dial, shape):
    window = SINKS + 1 + round(dial * (shape[2] - SINKS - 1))
    make, settings = cache_maker("streaming", sinks=SINKS, window=window)
    return make(*shape, **settings)


WAYS = [
    Way("ReSA", METHODS["rectified"], functools.partial(_blocks, "rectified"), extra=1 / PERIOD, period=PERIOD),
    Way("Quest", METHODS["quest"], functools.partial(_blocks, "quest")),
    Way("mean keys", METHODS["mean"], functools.partial(_blocks, "mean")),
    Way("StreamingLLM", METHODS["streaming"], _window),
]
