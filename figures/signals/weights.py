"""Which examples does the meta gradient trust? Eight gradients as arrows, and one label to flip."""

import math

import torch

from effattn_core.signals.weights import gradients_of, weights
from figures import theme

GOLD = ((-1.0, 0.4), (1.1, -0.2))  # two trusted examples, of classes 0 and 1
POINTS = ((-1.2, 0.6), (-0.7, -0.5), (-1.0, 0.1), (-0.3, 0.8), (0.9, 0.5), (1.3, -0.4), (0.5, -0.8), (0.8, 0.1))
LABELS = (0, 0, 0, 0, 1, 1, 1, 1)
FLIPPED = ("none", *(f"example {number + 1}" for number in range(len(POINTS))))


def _found(flipped):
    """(gradients of the eight examples, of the trusted ones, weights): of the first class's two numbers."""
    labels = torch.tensor(LABELS)
    if flipped != "none":
        place = FLIPPED.index(flipped) - 1
        labels[place] = 1 - labels[place]
    parameter = torch.zeros(2, 2, dtype=torch.float64)
    found, _ = gradients_of(torch.tensor(POINTS, dtype=torch.float64), labels, parameter)
    trusted, _ = gradients_of(torch.tensor(GOLD, dtype=torch.float64), torch.tensor([0, 1]), parameter)
    meta = trusted.mean(0)
    return found[:, ::2], meta[::2], weights(found, meta)


def arrows(flipped="none"):
    """Eight arrows, as wide as their weight, and the meta gradient."""
    import plotly.graph_objects as go

    found, meta, weight = _found(flipped)
    traces = []
    for number, (gradient, share) in enumerate(zip(found.tolist(), weight.tolist(), strict=True), start=1):
        colour = theme.BLUE if share else theme.VERMILLION
        traces.append(
            go.Scatter(
                x=[0, gradient[0]], y=[0, gradient[1]], mode="lines+markers+text", text=["", str(number)],
                textposition="top center", marker=dict(size=[1, 8], color=colour, symbol="circle" if share else "x"),
                line=dict(color=colour, width=1 + 25 * share, dash="solid" if share else "dot"),
                hovertemplate=f"example {number}: weight {share:.2f}<extra></extra>", textfont=dict(size=theme.NORMAL),
            )
        )  # fmt: skip
    traces.append(
        go.Scatter(x=[0, meta[0].item()], y=[0, meta[1].item()], mode="lines+markers+text", text=["", "meta"],
                   textposition="bottom center", line=dict(color=theme.GREEN, width=4), hoverinfo="skip",
                   marker=dict(size=[1, 12], color=theme.GREEN, symbol="diamond"), textfont=dict(size=theme.NORMAL))
    )  # fmt: skip
    title = f"<b>{int((weight > 0).sum())} of {len(POINTS)} examples count</b>"
    axis = dict(range=[-0.75, 0.75], title=dict(text="gradient, first number"))
    return theme.figure(
        *traces, height=400, showlegend=False, annotations=[theme.heading(title)], margin=dict(l=8, r=8, t=30, b=8),
        xaxis=axis, yaxis={**axis, "title": dict(text="second number")},
    )  # fmt: skip


def arrows_says(flipped="none"):
    """`arrows` in a sentence."""
    found, meta, weight = _found(flipped)
    told = "No label is flipped" if flipped == "none" else f"The label of {flipped} is flipped"
    out = [str(number) for number, share in enumerate(weight.tolist(), start=1) if not math.isclose(share, 0)]
    return f"{told}; the examples that align with the meta gradient and count are {', '.join(out)}."
