"""Figures of split data: two clients who pull apart, four hospitals' labels, and what each method reaches."""

import functools
import math
from statistics import fmean, stdev

import torch

from effattn_core.recordings import measured
from effattn_core.splits.federated import Bowls, Variates, averaged, controlled
from effattn_core.splits.institutions import COUNTS, INSTITUTIONS, mixes
from figures import theme

RUN = "splits/training-cpu"
STEPS, RATE, ROUNDS = (1, 2, 5, 10, 30), 0.1, 40
PAIR = Bowls(
    torch.tensor([[[2.6, 0.0], [0.0, 0.3]], [[0.4, 0.2], [0.2, 1.6]]], dtype=torch.float64),
    torch.tensor([[-1.5, 1.0], [1.5, -1.0]], dtype=torch.float64),
)
MEASURES = {"all classes alike": "macro", "the three rarest classes": "tail", "each hospital's own mix": "own"}
ARMS = (
    "all data in one place", "each alone", "FedAvg, by examples", "FedAvg, equal", "FedProx .01", "FedProx .3",
    "Scaffold", "Scaffold, as released", "Ditto .3",
)  # fmt: skip


@functools.cache
def _path(steps, control):
    """The server's parameters after each round, from the origin's corner, as a list of pairs."""
    start, clients = torch.tensor([-2.0, -2.0], dtype=torch.float64), PAIR.clients(steps)
    variates, found = Variates.zero(start, 2), [start.tolist()]
    for _ in range(ROUNDS):
        if control:
            start, variates = controlled(start, variates, clients, RATE)
        else:
            start = averaged(start, clients, [0.5, 0.5], RATE)
        found.append(start.tolist())
    return found


def _missed(steps, control):
    """How far the last round is from the optimum of both losses."""
    return math.dist(_path(steps, control)[-1], PAIR.optimum([0.5, 0.5]).tolist())


def _ring(client, level):
    """The contour of a client's loss at `level`, as (x, y)."""
    values, vectors = torch.linalg.eigh(PAIR.hessians[client])
    angle = torch.linspace(0, 2 * math.pi, 49, dtype=torch.float64)
    circle = torch.stack([angle.cos(), angle.sin()]) * (2 * level / values).sqrt()[:, None]
    points = PAIR.optima[client][:, None] + vectors @ circle
    return [[round(each, 3) for each in axis] for axis in points.tolist()]


def contours(steps=10, control=False):
    """Where do rounds of two clients lead? Contours of both losses, the server's path, the optimum."""
    import plotly.graph_objects as go

    traces = []
    for client, colour in ((0, theme.BLUE), (1, theme.ORANGE)):
        for place, level in enumerate((0.05, 0.3, 1.0)):
            x, y = _ring(client, level)
            line = dict(color=colour, width=1.5, dash="solid" if client == 0 else "dash")
            traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=place == 0,
                                     name=f"client {client + 1}"))  # fmt: skip
    path = [[round(each, 3) for each in point] for point in _path(steps, control)]
    best = PAIR.optimum([0.5, 0.5]).tolist()
    traces += [
        go.Scatter(x=[x for x, _ in path], y=[y for _, y in path], mode="lines+markers", name="server, round by round",
                   line=dict(color=theme.VERMILLION, width=2), marker=dict(size=5),
                   hovertemplate="(%{x:.2f}, %{y:.2f})<extra></extra>"),
        go.Scatter(x=[round(best[0], 3)], y=[round(best[1], 3)], mode="markers", name="optimum of the mean",
                   marker=dict(symbol="star", size=15, color=theme.GREEN), hoverinfo="skip"),
    ]  # fmt: skip
    missed = _missed(steps, control)
    title = f"<b>after {ROUNDS} rounds {missed:.2f} from the optimum</b>"
    return theme.figure(
        *traces, height=430, annotations=[theme.heading(title)], showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        legend=dict(y=-0.1, yanchor="top"), meta=dict(narrow={"annotations.0.text": f"<b>{missed:.2f} off</b>"}),
        xaxis=dict(range=[-2.8, 4.1], title=dict(text="first parameter")),
        yaxis=dict(range=[-2.6, 3.8], title=dict(text="second")),
    )  # fmt: skip


def contours_says(steps=10, control=False):
    """`contours` in a sentence."""
    kind = "with control variates" if control else "without control variates"
    local = f"{steps} local step{'s' * (steps != 1)}"
    off = _missed(steps, control)
    return f"After {ROUNDS} rounds, {local} each, {kind}, the server stands {off:.2f} from the optimum."


def labels():
    """Who has which labels? Shares of Fed-ECG's twenty labels at four institutions, most frequent first.

    A label that an institution never gave has no cell; one that is rare has, however rare.
    """
    import plotly.graph_objects as go

    table = torch.tensor(COUNTS)
    order = table.sum(0).argsort(descending=True, stable=True).tolist()
    shares = [[100 * each[label].item() for label in order] for each in mixes()]
    bar = dict(title=dict(text="% of its labels"), thickness=12)
    heat = go.Heatmap(
        z=[[round(math.log10(each), 3) if each else None for each in row] for row in shares],
        x=[str(label) for label in order],
        y=list(INSTITUTIONS), colorscale=theme.MAGNITUDE, zmin=-3, zmax=2, xgap=1, ygap=1,
        customdata=[[f"{each:.2g}" for each in row] for row in shares],
        colorbar=bar | dict(tickvals=[-2, -1, 0, 1], ticktext=["0.01", "0.1", "1", "10"]),
        hovertemplate="%{y}, label %{x}: %{customdata} %<extra></extra>",
    )  # fmt: skip
    return theme.figure(
        heat, height=260, xaxis=dict(type="category", title=dict(text="label, most frequent first")),
        yaxis=dict(autorange="reversed"),
    )  # fmt: skip


def labels_says():
    """`labels` in a sentence."""
    table = torch.tensor(COUNTS)
    lone = ((table > 0).sum(0) == 2).sum().item()
    size = table.sum(0)
    return (
        f"Of twenty labels {lone} are known at two of the four institutions only, and the most frequent label is "
        f"{size.max().item() / size.min().item():.0f} times as frequent as the rarest."
    )


def values(arm, measure, rounds=40):
    """An accuracy over the seeds."""
    return [row[measure] for row in measured(RUN, what="federated", arm=arm, rounds=rounds)]


def reached(measure="the three rarest classes"):
    """What does each method reach, and does the measure show it? Mean accuracy with one sd over seeds."""
    import plotly.graph_objects as go

    found = {arm: values(arm, MEASURES[measure]) for arm in ARMS}
    traces = []
    for arm in ARMS:
        outside = arm in ARMS[:2]
        mark = dict(size=10, symbol="diamond" if outside else "circle", color=theme.ORANGE if outside else theme.BLUE)
        error = dict(type="data", array=[round(stdev(found[arm]), 4)], color=mark["color"], thickness=2)
        traces.append(go.Scatter(x=[round(fmean(found[arm]), 4)], y=[arm], mode="markers", marker=mark, error_x=error,
                                 name=arm, hovertemplate="%{y}: %{x:.3f}<extra></extra>"))  # fmt: skip
    gap = fmean(found["Scaffold"]) - fmean(found["each alone"])
    title = f"<b>Scaffold is {gap:.3f} above training alone</b>"
    return theme.figure(
        *traces, height=400, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>Scaffold − alone: {gap:.3f}</b>"}),
        xaxis=dict(range=[0.45, 0.95], title=dict(text=f"accuracy, {measure}")), yaxis=dict(autorange="reversed"),
    )  # fmt: skip


def reached_says(measure="the three rarest classes"):
    """`reached` in a sentence."""
    mean = {arm: fmean(values(arm, MEASURES[measure])) for arm in ("each alone", "FedAvg, equal", "Scaffold")}
    return (
        f"Judged by {measure}, training alone reaches {mean['each alone']:.3f}, equal FedAvg "
        f"{mean['FedAvg, equal']:.3f} and Scaffold {mean['Scaffold']:.3f}."
    )
