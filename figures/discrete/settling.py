"""Figures of messages and margins: beliefs sweep by sweep beside the truth, and where a missing label turns a loss."""

import functools

import torch

from effattn_core.discrete.factors import enumerated, propagated, ring
from effattn_core.discrete.margins import LOSSES, breakdown, drift
from figures import theme

COUPLINGS, DAMPINGS, SWEEPS = (0.5, 1.0, 2.0, 3.0), (0.0, 0.3, 0.5, 0.8), 60
MISSING = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
COLOURS = (theme.BLUE, theme.ORANGE, theme.GREEN)


@functools.cache
def _settled(coupling, damping):
    """(belief in label 1 of each variable after each sweep, the exact ones, sweeps to settle)."""
    found = propagated(ring(coupling), damping=damping, sweeps=400)
    exact = [each[1].item() for each in enumerated(ring(coupling))[1]]
    return [[each[1].item() for each in beliefs] for beliefs in found.course], exact, found.sweeps


def settling(coupling=2.0, damping=0.0):
    """Do messages settle, and on what? Beliefs of two variables of a frustrated ring, sweep by sweep; dotted: exact."""
    import plotly.graph_objects as go

    course, exact, sweeps = _settled(coupling, damping)
    shown = course[:SWEEPS]
    traces = [
        go.Scatter(
            x=list(range(1, len(shown) + 1)), y=[round(each[place], 4) for each in shown], mode="lines+markers",
            name=f"variable {place + 1}", line=dict(color=COLOURS[place], width=2),
            marker=dict(size=6, symbol=("circle", "diamond")[place]),
            hovertemplate="sweep %{x}: %{y:.3f}<extra></extra>",
        )
        for place in (0, 1)
    ]  # fmt: skip
    lines = [
        dict(type="line", x0=1, x1=SWEEPS, y0=exact[place], y1=exact[place],
             line=dict(color=COLOURS[place], dash="dot"))
        for place in (0, 1)
    ]  # fmt: skip
    off = max(abs(a - b) for a, b in zip(course[-1], exact, strict=True))
    title = f"<b>settled after {sweeps} sweeps, off by {off:.3f}</b>"
    return theme.figure(
        *traces, height=340, annotations=[theme.heading(title)], shapes=lines, showlegend=True,
        margin=dict(l=8, r=8, t=30, b=8), legend=dict(y=-0.24, yanchor="top"),
        xaxis=dict(title=dict(text="sweep"), range=[0, SWEEPS]),
        yaxis=dict(title=dict(text="belief in label 1"), range=[0, 1]),
    )  # fmt: skip


def settling_says(coupling=2.0, damping=0.0):
    """`settling` in a sentence."""
    course, exact, sweeps = _settled(coupling, damping)
    return (
        f"Coupling {coupling:g}, damping {damping:g}: settled after {sweeps} sweeps; the first variable's belief in "
        f"label 1 is {course[-1][0]:.3f} where {exact[0]:.3f} is exact."
    )


@functools.cache
def _optimum(name, missing):
    """The margin at which the force of a loss is 0, or the end of [-6, 6] at which it still points outwards."""
    grid = torch.linspace(-6, 6, 481, dtype=torch.float64)
    force = drift(name, grid, torch.full_like(grid, missing))
    below = (force < 0).nonzero()
    return grid[below[0, 0]].item() if len(below) else 6.0


def turning(missing=0.4):
    """Where does each loss put a relation that always holds, if some of its labels are missing? Optimal margins."""
    import plotly.graph_objects as go

    names = sorted(LOSSES, key=breakdown)
    margins = [round(_optimum(name, missing), 3) for name in names]
    dots = go.Scatter(
        x=margins, y=names, mode="markers", hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        marker=dict(
            size=13, color=[theme.BLUE if each > 0 else theme.VERMILLION for each in margins],
            symbol=["circle" if each > 0 else "x" for each in margins],
        ),
    )  # fmt: skip
    lost = sum(each <= 0 for each in margins)
    title = f"<b>label missing with chance {missing:g}: {lost} of {len(names)} losses reject it</b>"
    zero = dict(type="line", x0=0, x1=0, yref="y domain", y0=0, y1=1, line=dict(color=theme.QUIET, dash="dot"))
    return theme.figure(
        dots, height=340, annotations=[theme.heading(title)], shapes=[zero], showlegend=False,
        margin=dict(l=8, r=8, t=30, b=8), meta=dict(narrow={"annotations.0.text": f"<b>{lost} losses reject it</b>"}),
        xaxis=dict(title=dict(text="optimal margin over the threshold"), range=[-6.4, 6.4]),
        yaxis=dict(autorange="reversed", showgrid=False),
    )  # fmt: skip


def turning_says(missing=0.4):
    """`turning` in a sentence."""
    found = ", ".join(f"{name} {_optimum(name, missing):.1f}" for name in sorted(LOSSES, key=breakdown))
    return f"With a chance of {missing:g} of a missing label the optimal margin of a certain relation is: {found}."
