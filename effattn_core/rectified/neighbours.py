"""ReSA's neighbours behind the same interface: dense, a window with sinks, Quest, and mean keys.

METHODS names them for tables and figures; `states_for` makes a model's caches by such a name.
"""

import torch

from effattn_core.attention import attention
from effattn_core.rectified import GATES, Choice, block_bounds, block_means, bound_scores, choose_blocks, mean_scores
from effattn_core.rectified.cache import RectifiedCache, RewindableCache, states_of

METHODS = {
    "dense": "every key",
    "rectified": "ReSA: blocks by a bound, one list for a group, cache rectified",
    "quest": "Quest: blocks by the same bound, a list for each query head",
    "mean": "blocks by their mean key (MoBA's gate), one list for a group",
    "streaming": "StreamingLLM: the first keys and the newest, no choice",
}


class StreamingCache(RewindableCache):
    """The first `sinks` keys and the newest up to `window` keys in all (Xiao et al. 2023).

    Keys keep the positions of the text, while StreamingLLM numbers them by their place in its small cache; and nothing
    is evicted here, so that rectification and comparison stay possible. What is read is the same.
    """

    def __init__(self, *shape, sinks=4, window=256, dtype=torch.float32, device=None):
        if not 0 <= sinks < window:
            raise ValueError(f"a window of {window} keys must have room for more than its {sinks} sinks.")
        super().__init__(*shape, dtype=dtype, device=device)
        self.sinks, self.window = sinks, window

    def look(self, query):
        return attention(query, self.key, self.value, window=self.window - self.sinks, sinks=self.sinks)

    def step_bytes(self):
        row = self._key.element_size() * (self._key.shape[3] + self._value.shape[3])
        return {"descriptors": 0, "blocks": min(self.length, self.window) * row * len(self._key) * self._key.shape[1]}


def cache_maker(method, **settings):
    """(class, keyword arguments) of a method's cache. settings: of `Choice`, or sinks and window for "streaming"."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {sorted(METHODS)}; it is {method!r}.")
    if method == "dense":
        return RewindableCache, settings
    if method == "streaming":
        return StreamingCache, settings
    return RectifiedCache, {
        "choice": Choice(shared=method != "quest", gate="mean" if method == "mean" else "bound", **settings)
    }


def states_for(model, method, batch=1, **settings):
    """A model's caches for decoding by `method`. settings as in `cache_maker`; errors as there."""
    make, arguments = cache_maker(method, **settings)
    return states_of(model, batch, make, **arguments)


def needle_recall(block_size, *, time=4096, head_dim=64, strength=8.0, active=0.1, trials=100, seed=0):
    """How often each gate's list holds the one key that matters: {gate: share of `trials`}.

    Keys and query are random normal; one key is pushed by `strength` standard deviations towards the query.
    """
    generator, found = torch.Generator().manual_seed(seed), dict.fromkeys(GATES, 0)
    choice = Choice(block_size, active, least=1)
    for _ in range(trials):
        query = torch.randn(1, 1, 1, head_dim, generator=generator)
        key = torch.randn(1, 1, time, head_dim, generator=generator)
        place = int(torch.randint(time, (), generator=generator))
        key[:, :, place] += strength * query[:, :, 0] / query.norm()
        scores = {
            "bound": bound_scores(query, *block_bounds(key, block_size)),
            "mean": mean_scores(query, block_means(key, block_size), scale=1.0),
        }
        for gate, score in scores.items():
            found[gate] += int(place // block_size in choose_blocks(score, choice)[0, 0].tolist())
    return {gate: hits / trials for gate, hits in found.items()}
