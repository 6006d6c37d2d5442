"""Where does the feature of a new entity go while it labels its own mentions? Two bearers of one name, in the plane."""

import functools
import math

import torch

from effattn_core.signals.slots import posterior, self_trained
from figures import theme

SLOTS, DRAWS = (1, 2, 3, 4, 5), (1, 2, 3, 4, 5)
ROUNDS, SCALE, OLD, NEW, SPREAD = 6, 6.0, 0.0, 70.0, 40.0  # angles in degrees


def _world(draw):
    """(unlabelled (vectors, candidates), their truth, labelled (vectors, candidates, targets), features)."""
    generator = torch.Generator().manual_seed(draw)

    def turned(centre, count):
        angles = (centre + SPREAD * torch.randn(count, generator=generator, dtype=torch.float64)).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], 1)

    labelled = turned(NEW, 3)
    truth = (torch.rand(60, generator=generator) < 0.35).long()
    both = torch.stack([turned(OLD, 60), turned(NEW, 60)])
    vectors = both[truth, torch.arange(60)]
    pair = torch.tensor([0, 1])
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    known = labelled, pair.expand(3, 2), torch.ones(3, dtype=torch.long)
    return (vectors, pair.expand(60, 2)), truth, known, features


@functools.cache
def _walked(slots, draw, hard=False, anchored=None):
    """(angles of the new feature per round, accuracy per round, confidence per round). anchored: as `self_trained`."""
    (vectors, candidates), truth, labelled, features = _world(draw)
    parts = list(zip(vectors.chunk(slots), candidates.chunk(slots), strict=True))
    prior, new = torch.ones(2, dtype=torch.float64), torch.tensor([False, True])
    path = self_trained(
        parts, labelled, features, prior, new, SCALE, rounds=ROUNDS, steps=1, hard=hard, anchored=anchored
    )
    angles = [round(math.degrees(math.atan2(*found[1].flip(0).tolist())), 1) for found in path]
    shares = [posterior(vectors, candidates, found, prior, SCALE) for found in path]
    right = [round((share.argmax(1) == truth).double().mean().item(), 3) for share in shares]
    return angles, right, [round(share.max(1)[0].mean().item(), 3) for share in shares]


def drift(slots=1, draw=4):
    """The new entity's direction per round: labelled by itself, hard or soft, in slots, or anchored."""
    import plotly.graph_objects as go

    traces = []
    soft = f"soft, {slots} slot{'s' * (slots > 1)}"
    for name, (angles, _, _), colour, symbol, dash in (
        ("hard, 1 slot", _walked(1, draw, hard=True), theme.VERMILLION, "x", "dot"),
        (soft, _walked(slots, draw), theme.BLUE, "circle", "solid"),
        ("soft, 1 slot, anchored", _walked(1, draw, anchored=True), theme.GREEN, "square", "dash"),
    ):
        traces.append(
            go.Scatter(
                x=list(range(ROUNDS + 1)), y=angles, mode="lines+markers", name=name,
                line=dict(color=colour, dash=dash),
                marker=dict(size=9, symbol=symbol, color=colour), hovertemplate="round %{x}: %{y}°<extra></extra>",
            )
        )  # fmt: skip
    for name, angle in (("the new one", NEW), ("the known one", OLD)):
        traces.append(
            go.Scatter(x=[0, ROUNDS], y=[angle, angle], mode="lines+text", text=["", name], textposition="top left",
                       textfont=dict(size=theme.NORMAL), showlegend=False, hoverinfo="skip",
                       line=dict(color=theme.QUIET, dash="dash"))
        )  # fmt: skip
    _, right, sure = _walked(slots, draw)
    title = f"<b>right {right[0]:.2f} → {right[-1]:.2f}; confidence {sure[0]:.2f} → {sure[-1]:.2f}</b>"
    return theme.figure(
        *traces, height=400, annotations=[theme.heading(title)], showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>right {right[0]:.2f} → {right[-1]:.2f}</b>"}),
        legend=dict(y=-0.2, yanchor="top"), xaxis=dict(title=dict(text="round of self-training")),
        yaxis=dict(title=dict(text="direction of the feature, degrees"), range=[-25, 115]),
    )  # fmt: skip


def drift_says(slots=1, draw=4):
    """`drift` in a sentence."""
    (angles, right, sure), (anchored, _, _) = _walked(slots, draw), _walked(1, draw, anchored=True)
    return (
        f"Draw {draw}, {slots} slot{'s' * (slots > 1)}: from {angles[0]:.0f} to {angles[-1]:.0f} degrees (one anchored "
        f"slot: {anchored[-1]:.0f}), the truth at {NEW:.0f}; right {right[0]:.2f}, then {right[-1]:.2f}; "
        f"confidence {sure[0]:.2f}, then {sure[-1]:.2f}."
    )
