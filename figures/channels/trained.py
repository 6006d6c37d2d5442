"""The key channels of SmolLM2: which of them LeanK's two stages keep, beside the masks released for a larger model."""

import functools

from effattn_core.channels import costs as costs_channels
from effattn_core.recordings import measured
from figures import theme

RUN = "channels/smollm2-cpu"
LEARNED = "learned, two stages"


def rows(what, **wanted):
    """The recorded rows of one kind, with the fields that are wanted."""
    return measured(RUN, what=what, **wanted)


@functools.cache
def shares():
    """Shares asked to go that were tried, in order."""
    return sorted({row["pruned"] for row in rows("mask", rule=LEARNED)})


def mask_row(pruned, rule=LEARNED):
    """What was recorded of a mask."""
    return rows("mask", rule=rule, pruned=pruned)[0]


def errors_tables():
    """task -> what `figures.channels.errors` draws of it."""
    needles = [{**row, "missed": 1 - row["digits"], "kept": mask_row(row["pruned"], row["rule"])["kept"]}
               for row in rows("needle")]  # fmt: skip
    return {
        "next tokens": (rows("text"), "kl", "KL to the dense model, nats per token", True),
        "loss": (rows("text"), "loss", "nats per token", False),
        "needle": (needles, "missed", "digits of a needle not found", False),
    }


def kept(pruned=0.7):
    """Which channels does the mask need? Importance of each layer's rotary pairs, and the share kept by eighths."""
    import plotly.graph_objects as go

    mask = mask_row(pruned)
    pairs = rows("importance", stage=f"2 {pruned}")[0]["pairs"]
    wide, quarters = len(pairs[0]) / 8, costs_channels.RELEASED_QUARTERS
    traces = [
        go.Heatmap(z=pairs, zmin=0, zmax=1, colorscale=theme.MAGNITUDE, xgap=1, ygap=1,
                   colorbar=dict(title=dict(text="importance", side="right"), len=0.55, y=1, yanchor="top",
                                 thickness=12, tickvals=[0, 0.5, 1]),
                   hovertemplate="layer %{y}, pair %{x}: importance %{z}<extra></extra>"),
        go.Bar(x=[wide * (part + 0.5) - 0.5 for part in range(8)], y=mask["eighths"], width=0.9 * wide,
               name="kept of SmolLM2's", marker=dict(color=theme.BLUE), xaxis="x2", yaxis="y2",
               hovertemplate="%{y:.0%} kept<extra></extra>"),
        go.Scatter(x=[2 * wide * part - 0.5 for part in range(5)], y=[*quarters, quarters[-1]], mode="lines",
                   line=dict(color=theme.VERMILLION, width=3, dash="dot", shape="hv"), xaxis="x2", yaxis="y2",
                   name="released for Llama 3.1 8B", hoverinfo="skip"),
    ]  # fmt: skip
    title = f"<b>{mask['kept']:.0%} kept</b>, {mask['empty']:.0%} of heads empty"
    across = dict(range=[-0.5, len(pairs[0]) - 0.5], showgrid=False)
    return theme.figure(
        *traces, height=500, showlegend=True, legend=dict(y=-0.16, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(title)],
        xaxis=dict(showticklabels=False, ticks="", **across),
        yaxis=dict(domain=[0.42, 1], tickvals=list(range(0, len(pairs), 5)), showgrid=False,
                   range=[len(pairs) - 0.5, -0.5], title=dict(text="layer")),
        xaxis2=dict(anchor="y2", title=dict(text="rotary pair: fast left, slow right"), **across),
        yaxis2=dict(anchor="x2", domain=[0, 0.34], range=[0, 1.02], tickformat=".0%", tickvals=[0, 0.5, 1],
                    title=dict(text="share kept")),
    )  # fmt: skip


def kept_says(pruned=0.7):
    """`kept` in a sentence."""
    mask = mask_row(pruned)
    eighths = mask["eighths"]
    return (
        f"With {pruned:.0%} asked to go the learned mask keeps {mask['kept']:.0%} of SmolLM2's key channels: "
        f"{sum(eighths[:2]) / 2:.0%} of the fastest quarter of the pairs, {sum(eighths[6:]) / 2:.0%} of the slowest."
    )
