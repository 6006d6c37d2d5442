"""Figures of slices: how fast the past should fade, and a density of gaps that may never end."""

import functools
import math

import torch

from effattn_core.coattention.slices import log_density, mass
from effattn_core.recordings import measured
from figures import theme

RUN, WALKS = "coattention/graphs-cpu", (1, 3)
LOG_RATE, SLOPES = 0.3, (-1.0, -0.5, -0.2, 0.0, 0.5)


@functools.cache
def _told(hops):
    """name of the decay -> (MRR, its standard error)."""
    return {row["decay"]: (row["score"], row["se"]) for row in measured(RUN, mechanism="slices", hops=hops)}


def decays(hops=3):
    """How fast should the past fade? Rank of whom a speaker answers next, by the decay over slices."""
    import plotly.graph_objects as go

    told = dict(_told(hops))
    one, _ = told.pop("global")
    names = {"0": "last slice only", "inf": "all alike"}
    x = [names.get(name, f"κ {float(name):g}") for name in told]
    best = max(told, key=lambda name: told[name][0])
    traces = [
        go.Bar(x=x, y=[score for score, _ in told.values()], marker=dict(color=theme.BLUE), name="slices",
               error_y=dict(type="data", array=[2 * error for _, error in told.values()], color=theme.INK),
               hovertemplate="%{x}: %{y:.3f}<extra></extra>"),
        go.Scatter(x=x, y=[one] * len(x), mode="lines", name="one graph of all that was",
                   line=dict(color=theme.VERMILLION, dash="dash"), hovertemplate="one graph: %{y:.3f}<extra></extra>"),
    ]  # fmt: skip
    return theme.figure(
        *traces, height=380, margin=dict(l=8, r=8, t=60, b=8),
        xaxis=dict(title=dict(text=f"weight of the past; best: {names.get(best, f'κ {float(best):g}')}")),
        yaxis=dict(title=dict(text="mean reciprocal rank"), range=[0.2, 0.38]),
    )  # fmt: skip


def decays_says(hops=3):
    """`decays` in a sentence."""
    told = _told(hops)
    return (
        f"Walks of up to {hops} hops: mean reciprocal rank {told['3'][0]:.3f} at κ 3, {told['inf'][0]:.3f} with all "
        f"slices alike, {told['0'][0]:.3f} by the last slice only, {told['global'][0]:.3f} by one graph."
    )


@functools.cache
def _curve(slope):
    gaps = torch.linspace(0, 6, 61, dtype=torch.float64)
    rate, slope = (torch.tensor(each, dtype=torch.float64) for each in (LOG_RATE, slope))
    return [round(each, 2) for each in gaps.tolist()], [
        round(each, 4) for each in log_density(gaps, rate, slope).exp().tolist()
    ]


def ending(slope=-0.5):
    """Does the next event ever come? The density of the gap where the rate changes by e^ωτ."""
    import plotly.graph_objects as go

    gaps, density = _curve(slope)
    never = 1 - mass(LOG_RATE, slope)
    curve = go.Scatter(x=gaps, y=density, mode="lines", fill="tozeroy", line=dict(color=theme.BLUE),
                       hovertemplate="gap %{x:.1f}: %{y:.3f}<extra></extra>")  # fmt: skip
    title = f"<b>never: {never:.3f}</b> of the mass, at slope {slope:g}"
    return theme.figure(
        curve, height=320, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(title=dict(text="gap τ"), range=[0, 6]), yaxis=dict(title=dict(text="density"), range=[0, 1.5]),
    )  # fmt: skip


def ending_says(slope=-0.5):
    """`ending` in a sentence."""
    first = math.exp(LOG_RATE)
    never = 1 - mass(LOG_RATE, slope)
    return (
        f"The rate starts at {first:.2f} and changes with slope {slope:g}: the gap never ends with chance {never:.3f}."
    )
