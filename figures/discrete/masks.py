"""Figure of a learned mask of voxels: how wide a filter finds the region."""

import functools

import torch

from effattn_core.discrete.masks import keep_top, low_pass, overlap
from effattn_core.discrete.voxels import GENEROUS, area
from effattn_core.recordings import measured
from figures import theme

RUN = "discrete/factors-cpu"
SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@functools.cache
def _sheet():
    """(scores of the mask recorded, the true region) of the first subject, [rows, columns]."""
    (row,) = measured(RUN, what="sheet")
    return torch.tensor(row["score"], dtype=torch.float64), torch.tensor(row["region"]).bool()


@functools.cache
def _found(sigma):
    """(smoothed scores, voxels kept, their overlap with the region, the area under the ROC curve)."""
    score, region = _sheet()
    smooth = low_pass(score, sigma)
    kept = keep_top(smooth.flatten(), round(GENEROUS * int(region.sum()))).view(score.shape)
    return smooth, kept, overlap(kept, region), area(smooth, region)


def smoothing(sigma=0.0):
    """How wide a filter finds the region? Scores of voxels, the true region, and the voxels that are kept."""
    import plotly.graph_objects as go

    smooth, kept, found, right = _found(sigma)
    region = _sheet()[1]
    shades = go.Heatmap(
        z=[[round(each, 3) for each in line] for line in (smooth / smooth.max()).tolist()],
        colorscale=theme.MAGNITUDE, zmin=0, zmax=1, showscale=False, hovertemplate="score %{z:.2f}<extra></extra>",
    )  # fmt: skip
    edge = go.Contour(
        z=region.int().tolist(), contours=dict(start=0.5, end=0.5, size=1, coloring="none"), showscale=False,
        line=dict(color=theme.VERMILLION, width=3), hoverinfo="skip", name="true region",
    )  # fmt: skip
    down, across = kept.nonzero().T.tolist()
    dots = go.Scatter(
        x=across, y=down, mode="markers", marker=dict(size=4, color=theme.ORANGE), hoverinfo="skip", name="kept",
    )  # fmt: skip
    title = f"<b>σ = {sigma:g}: overlap {found:.2f}, area under ROC {right:.3f}</b>"
    blank = dict(showgrid=False, showticklabels=False, showline=False, range=[-0.5, len(region) - 0.5])
    return theme.figure(
        shades, edge, dots, height=400, annotations=[theme.heading(title)], showlegend=False,
        margin=dict(l=8, r=8, t=30, b=8), meta=dict(narrow={"annotations.0.text": f"<b>overlap {found:.2f}</b>"}),
        xaxis=dict(constrain="domain", **blank), yaxis=dict(scaleanchor="x", constrain="domain", **blank),
    )  # fmt: skip


def smoothing_says(sigma=0.0):
    """`smoothing` in a sentence."""
    _, kept, found, right = _found(sigma)
    return (
        f"With a filter of {sigma:g} voxels the {int(kept.sum())} voxels kept overlap the true region by {found:.2f}; "
        f"the area under the ROC curve of the scores is {right:.3f}."
    )
