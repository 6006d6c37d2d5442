"""Updates that know a graph: an embedding's step is averaged over its neighbours' before it is taken."""

from effattn_core.graphs.adjacency import Adjacency, normalised, united
from effattn_core.graphs.forms import exact, gain, gain_of_iteration, iterated, oracle, scale_of_series, smoothness
from effattn_core.graphs.interface import smooth
from effattn_core.graphs.optimizers import AdamWSEvo, RowwiseAdamW, Smoothed

__all__ = [
    "Adjacency",
    "AdamWSEvo",
    "RowwiseAdamW",
    "Smoothed",
    "exact",
    "gain",
    "gain_of_iteration",
    "iterated",
    "normalised",
    "oracle",
    "scale_of_series",
    "smooth",
    "smoothness",
    "united",
]
