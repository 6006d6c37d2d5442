"""Figures of updates that know a graph: a step that spreads, gains over a spectrum, links found, and learning rates."""

import functools
import math
from statistics import fmean, stdev

import torch

from effattn_core.graphs import gain, gain_of_iteration, smooth
from effattn_core.graphs.worlds import world
from effattn_core.recordings import measured
from figures import theme

RUN = "graphs/training-cpu"
SPREAD, HOPS = (0.5, 0.9, 0.99), tuple(range(6))
BETAS, LAYERS, SEEN = (0.3, 0.5, 0.7, 0.9, 0.99), (1, 2, 3, 4, 10), ("les miserables", "karate", "davis")
TITLES = {"les miserables": "Les Misérables", "karate": "the karate club", "davis": "the women of Davis"}
WHO = {"the instructor": 0, "the president": 33, "who knows one other": 11}  # name -> member, from 0
# Where the karate club's members stand, a drawing by Kamada and Kawai's rule, rounded: the same on every machine.
PLACES = (
    (0.03, 0.33), (-0.15, 0.25), (0.07, -0.0), (0.15, 0.23), (0.19, 0.57), (0.19, 0.68), (-0.0, 0.69), (0.28, 0.21),
    (-0.18, -0.01), (0.07, -0.29), (0.38, 0.53), (-0.19, 0.63), (0.43, 0.38), (-0.09, 0.05), (-0.5, -0.31),
    (-0.47, -0.43), (0.16, 1.0), (-0.28, 0.51), (-0.4, -0.53), (-0.28, 0.07), (-0.29, -0.62), (-0.37, 0.44),
    (-0.16, -0.64), (0.24, -0.52), (0.57, -0.3), (0.55, -0.17), (-0.05, -0.76), (0.28, -0.29), (0.19, -0.29),
    (0.07, -0.62), (-0.38, -0.09), (0.2, -0.07), (-0.17, -0.31), (-0.1, -0.34),
)  # fmt: skip


@functools.cache
def _shares(member, hops, beta):
    """What each member's row is moved by, where only `member` has a gradient, of size 1."""
    adjacency = world("karate").adjacency
    step = torch.zeros(adjacency.nodes, 1, dtype=torch.float64)
    step[WHO[member]] = 1
    return tuple(smooth(step, adjacency, beta=beta, layers=hops)[:, 0].tolist())


def _told(member, hops, beta):
    """(own share, rows that move beside it, the largest of theirs)."""
    shares, node = _shares(member, hops, beta), WHO[member]
    others = [each for place, each in enumerate(shares) if place != node]
    return shares[node], sum(each > 0 for each in others), max(others)


def spreading(member="the instructor", hops=1, beta=0.9):
    """How far does one example's gradient reach? Members of the karate club, coloured by what their rows move."""
    import plotly.graph_objects as go

    found, shares, node = world("karate"), _shares(member, hops, beta), WHO[member]
    lines = [[], []]
    for one, other in found.edges.T.tolist():
        for axis in (0, 1):
            lines[axis] += [PLACES[one][axis], PLACES[other][axis], None]
    sizes = [10 + 26 * math.sqrt(each) for each in shares]
    still = [each == 0 for each in shares]
    own, moved, _ = _told(member, hops, beta)
    edge = [theme.VERMILLION if place == node else theme.INK for place in range(found.nodes)]
    traces = [
        go.Scatter(x=lines[0], y=lines[1], mode="lines", line=dict(color=theme.GRID, width=1), hoverinfo="skip"),
        go.Scatter(
            x=[x for x, _ in PLACES], y=[y for _, y in PLACES], mode="markers",
            marker=dict(
                size=sizes, color=[max(each, 1e-3) for each in shares], colorscale=theme.MAGNITUDE, cmin=0, cmax=0.5,
                symbol=["circle-open" if each else "circle" for each in still],
                line=dict(color=edge, width=[3 if place == node else 1 for place in range(found.nodes)]),
                colorbar=dict(title=dict(text="moves by"), thickness=12, tickvals=[0, 0.25, 0.5]),
            ),
            customdata=[f"member {place + 1}: {each:.3f}" for place, each in enumerate(shares)],
            hovertemplate="%{customdata}<extra></extra>",
        ),
    ]  # fmt: skip
    title = f"<b>one gradient moves {moved + 1} of {found.nodes} rows</b>, its own by {own:.2f}"
    blank = dict(showgrid=False, showticklabels=False, showline=False)
    return theme.figure(
        *traces, height=430, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>{moved + 1} of {found.nodes} rows</b>, own {own:.2f}"}),
        xaxis=dict(range=[-0.62, 0.68], **blank), yaxis=dict(range=[-0.88, 1.1], **blank),
    )  # fmt: skip


def spreading_says(member="the instructor", hops=1, beta=0.9):
    """`spreading` in a sentence."""
    own, moved, largest = _told(member, hops, beta)
    hopped = f"{hops} hop{'s' * (hops != 1)}"
    begun = f"Only {member.replace('who', 'a member who')} has a gradient. After {hopped} with beta {beta:g} "
    if not moved:
        return f"{begun}only that row moves, by {own:.2f}."
    others = f"{moved} other rows move" if moved > 1 else "1 other row moves"
    return f"{begun}that row moves by {own:.2f} of a step and {others}, the most by {largest:.2f}."


@functools.cache
def _spectrum(name):
    """Eigenvalues of Ã, rounded: the same on every machine."""
    return tuple(round(each, 3) + 0.0 for each in torch.linalg.eigvalsh(world(name).adjacency.dense()).tolist())


def _gains(name, beta, layers):
    """(least gain of the series, least of the iteration, how many eigenvalues the iteration turns)."""
    values = _spectrum(name)
    series = min(gain(each, beta, layers) for each in values)
    rival = [gain_of_iteration(each, beta, layers) for each in values]
    return series, min(rival), sum(each < -1e-9 for each in rival)


def spectrum(graph="davis", beta=0.9, layers=1):
    """By what is each part of a step multiplied? Gains of the series, of its rival and of the limit, over λ."""
    import plotly.graph_objects as go

    values, (series, _, turned) = _spectrum(graph), _gains(graph, beta, layers)
    line = [each / 20 for each in range(-20, 21)]
    rival = [gain_of_iteration(each, beta, layers) for each in values]
    dot = dict(mode="markers", hovertemplate="λ %{x:.2f}: %{y:.3f}<extra></extra>")
    wrong = [place for place, each in enumerate(rival) if each < -1e-9]
    right = [place for place in range(len(values)) if place not in wrong]
    traces = [
        go.Scatter(x=line, y=[gain(each, beta, math.inf) for each in line], mode="lines", name="dense solve",
                   line=dict(color=theme.QUIET, dash="dot", width=2), hoverinfo="skip"),
        go.Scatter(x=list(values), y=[gain(each, beta, layers) for each in values], name="series",
                   marker=dict(color=theme.BLUE, symbol="circle", size=8), **dot),
        go.Scatter(x=[values[each] for each in right], y=[rival[each] for each in right], name="iteration",
                   marker=dict(color=theme.ORANGE, symbol="diamond", size=7), **dot),
        go.Scatter(x=[values[each] for each in wrong] or [None], y=[rival[each] for each in wrong] or [None],
                   name="iteration, turned", marker=dict(color=theme.VERMILLION, symbol="x", size=9), **dot),
    ]  # fmt: skip
    title = f"<b>series at least {series:.3f}</b>; iteration turns {turned} of {len(values)}"
    zero = dict(type="line", xref="x domain", x0=0, x1=1, y0=0, y1=0, line=dict(color=theme.INK))
    return theme.figure(
        *traces, height=400, annotations=[theme.heading(title)], shapes=[zero], showlegend=True,
        meta=dict(narrow={"annotations.0.text": f"<b>series ≥ {series:.3f}</b>; {turned} turned"}),
        legend=dict(y=-0.2, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(title=dict(text="eigenvalue λ of Ã"), range=[-1.06, 1.06]),
        yaxis=dict(title=dict(text="gain"), range=[-1.06, 1.06]),
    )  # fmt: skip


def spectrum_says(graph="davis", beta=0.9, layers=1):
    """`spectrum` in a sentence."""
    series, least, turned = _gains(graph, beta, layers)
    hops = f"{layers} hop{'s' * (layers != 1)}"
    return (
        f"In the graph of {TITLES[graph]}, with beta {beta:g} and {hops}, the series keeps the direction of every part "
        f"of a step and multiplies none by less than {series:.3f}; the iteration turns {turned} of "
        f"{len(_spectrum(graph))} parts, its least gain is {least:.3f}."
    )


def recorded():
    """The graphs of the recorded run, the largest first."""
    return [row["graph"] for row in measured(RUN, what="graph")]


@functools.cache
def _found(name):
    """method -> scores of the judged cuts, best first in the mean."""
    rows = measured(RUN, what="judged", graph=name) + measured(RUN, what="untrained", graph=name)
    return dict(sorted(((row["method"], row["scores"]) for row in rows), key=lambda each: -fmean(each[1])))


KINDS = {
    "walk": "untrained", "popularity": "untrained", "chance": "untrained", "AdamW": "graph not used",
    "correction alone": "graph not used", "SEvo, β 0.5": "SEvo", "SEvo, β 0.9": "SEvo", "SEvo, β 0.99": "SEvo",
    "AdamW, table smoothed afterwards": "graph used elsewhere", "graph in every pass": "graph used elsewhere",
}  # fmt: skip
MARKS = {
    "untrained": (theme.INK, "square"), "graph not used": (theme.VERMILLION, "diamond"), "SEvo": (theme.BLUE, "circle"),
    "a part of SEvo changed": (theme.SKY, "triangle-up"), "graph used elsewhere": (theme.GREEN, "star"),
}  # fmt: skip


def links(graph="les miserables"):
    """Who finds held-out links? NDCG@5 of each method, the mean over cuts, with the spread of one cut."""
    import plotly.graph_objects as go

    found = _found(graph)
    order, traces = list(found), []
    for kind, (colour, symbol) in MARKS.items():
        mine = [each for each in order if KINDS.get(each, "a part of SEvo changed") == kind]
        traces.append(
            go.Scatter(
                x=[round(fmean(found[each]), 4) for each in mine], y=[order.index(each) for each in mine], name=kind,
                mode="markers", marker=dict(color=colour, symbol=symbol, size=11),
                error_x=dict(type="data", array=[round(stdev(found[each]), 4) for each in mine], color=colour,
                             thickness=1.5, width=3),
                customdata=mine, hovertemplate="%{customdata}: %{x:.3f}<extra></extra>",
            )
        )  # fmt: skip
    return theme.figure(
        *traces, height=130 + 27 * len(order), showlegend=True, margin=dict(l=8, r=8, t=12, b=8),
        legend=dict(y=-0.16, yanchor="top"), xaxis=dict(title=dict(text="NDCG@5 of held-out links"), range=[0, 1]),
        yaxis=dict(tickvals=list(range(len(order))), ticktext=order, range=[len(order) - 0.5, -0.5], showgrid=False),
    )  # fmt: skip


def links_says(graph="les miserables"):
    """`links` in a sentence."""
    found = "; ".join(f"{method} {fmean(scores):.3f}" for method, scores in _found(graph).items())
    return f"NDCG@5 of held-out links of {TITLES[graph]}, means over cuts: {found}."


COMPARED = {"AdamW": (theme.VERMILLION, "diamond"), "SEvo, β 0.9": (theme.BLUE, "circle")}


def _best_of(name, method):
    """rate -> the best tuned NDCG@5 over weight decays."""
    best = {}
    for row in measured(RUN, what="tuning", graph=name, method=method):
        best[row["rate"]] = max(best.get(row["rate"], 0), row["best"])
    return dict(sorted(best.items()))


def rates(graph="les miserables"):
    """Is it the graph or the learning rate? The best NDCG@5 on the tuned cuts at each rate, for both optimizers."""
    import plotly.graph_objects as go

    traces, tops = [], {}
    for method, (colour, symbol) in COMPARED.items():
        best = _best_of(graph, method)
        tops[method] = max(best.values())
        traces.append(
            go.Scatter(x=list(best), y=[round(each, 4) for each in best.values()], name=method, mode="lines+markers",
                       line=dict(color=colour, width=2), marker=dict(symbol=symbol, size=9),
                       hovertemplate="rate %{x}: %{y:.3f}<extra>" + method + "</extra>")
        )  # fmt: skip
    plain, ours = tops.values()
    title, short = f"<b>each at its best: {ours / plain - 1:+.0%}</b>, by the graph", f"<b>{ours / plain - 1:+.0%}</b>"
    axis = dict(type="log", title=dict(text="learning rate"), tickvals=list(best), ticktext=[f"{x:g}" for x in best])
    return theme.figure(
        *traces, height=340, annotations=[theme.heading(title)], showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        legend=dict(y=-0.25, yanchor="top"), meta=dict(narrow={"annotations.0.text": short}), xaxis=axis,
        yaxis=dict(title=dict(text="NDCG@5 of the tuned cuts"), rangemode="tozero"),
    )  # fmt: skip


def rates_says(graph="les miserables"):
    """`rates` in a sentence."""
    parts = []
    for method in COMPARED:
        best = _best_of(graph, method)
        parts.append(f"{method} " + ", ".join(f"{each:.3f} at {rate:g}" for rate, each in best.items()))
    return f"Best NDCG@5 on the tuned cuts of {TITLES[graph]} by learning rate: {'; '.join(parts)}."
