"""A step smoothed over a graph beside the other methods of the book."""

from statistics import fmean

from effattn_core.choices import NO_TEXT, Found, Method, Recall
from effattn_core.graphs.costs import adamw_bytes, smoothing_bytes
from effattn_core.recordings import measured

RUN, DIM, HOPS = "graphs/training-cpu", 64, 3


def _price():
    (graph,) = measured(RUN, what="graph", graph="les miserables")
    more = smoothing_bytes(graph["nodes"], graph["entries"], DIM, HOPS) / adamw_bytes(graph["nodes"], DIM)
    return f"{HOPS} hops over {graph['nodes']} rows of {DIM} move {more:.1f} times the bytes of AdamW's step besides it"


def _score(method):
    (row,) = [row for row in measured(RUN, graph="les miserables", method=method) if "scores" in row]
    return fmean(row["scores"])


def _in_every_pass():
    there, here = _score("graph in every pass"), _score("SEvo, β 0.9")
    return f"the graph in every pass ranks better: NDCG@5 {there:.3f}, SEvo {here:.3f}"


METHODS = [
    Method(
        topic="graphs", name="SEvo", page="6-lowbit/graphs", task="graph", training="scratch",
        lines=None, price=_price, place=(6, 2),
        recall=Recall(stated=NO_TEXT, because="it moves rows of a table"),
        kernels=(("step", "graphs.launch_smooth"),),
        loses=Found(RUN, _in_every_pass),
        seen=(("LightGCN, in every pass", "lightgcn"),),
    )
]  # fmt: skip
