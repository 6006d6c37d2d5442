"""What a linker finds among k entities, and the ceiling that this sets for whatever re-ranks them."""

from statistics import fmean

from effattn_core.recordings import measured
from effattn_core.splits.linking import TOP
from figures import theme

RUN = "splits/comparison-cpu"
ENCODERS = ("bi-encoder", "name apart")
TOPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _recall(arm):
    """k -> R@k, the mean over seeds."""
    rows = measured(RUN, what="linking", arm=arm)
    return {k: fmean(row["recall"][str(k)] for row in rows) for k in TOPS}


def _end(encoder):
    rows = measured(RUN, what="reranked", encoder=encoder, arm="own top 16")
    return fmean(row["accuracy"] for row in rows), fmean(row["normalised"] for row in rows)


def ceiling(encoder="bi-encoder", k=16):
    """How far can a re-ranker come? R@k of a bi-encoder, untrained and trained, with the ceiling at k."""
    import plotly.graph_objects as go

    before = "untrained" if encoder == "bi-encoder" else "name apart, untrained"
    traces = []
    for arm, name, colour, dash in (
        (before, "untrained", theme.ORANGE, "dot"), (encoder, "trained", theme.BLUE, "solid"),
    ):  # fmt: skip
        found = _recall(arm)
        traces.append(
            go.Scatter(x=list(found), y=[round(each, 4) for each in found.values()], name=name, mode="lines+markers",
                       line=dict(color=colour, dash=dash, width=2), hovertemplate="R@%{x}: %{y:.3f}<extra></extra>")
        )  # fmt: skip
    reached, accuracy = _recall(encoder)[k], _end(encoder)[0]
    if k == TOP:  # no other number of candidates was recorded
        traces.append(
            go.Scatter(x=[TOP], y=[round(accuracy, 4)], name=f"re-ranked, {TOP}", mode="markers",
                       marker=dict(color=theme.VERMILLION, symbol="star", size=13),
                       hovertemplate="end to end %{y:.3f}<extra></extra>")
        )  # fmt: skip
    line = dict(
        type="line", xref="x domain", x0=0, x1=1, y0=reached, y1=reached, line=dict(color=theme.INK, dash="dash")
    )
    return theme.figure(
        *traces, height=380, annotations=[theme.heading(f"<b>no re-ranker of {k} comes above {reached:.2f}</b>")],
        shapes=[line], showlegend=True, legend=dict(y=-0.22, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>ceiling at {k}: {reached:.2f}</b>"}),
        xaxis=dict(type="log", title=dict(text="entities retrieved, k"), tickvals=list(TOPS),
                   ticktext=list(map(str, TOPS))),
        yaxis=dict(title=dict(text="gold among them"), range=[0, 1.02]),
    )  # fmt: skip


def ceiling_says(encoder="bi-encoder", k=16):
    """`ceiling` in a sentence."""
    accuracy, normalised = _end(encoder)
    again = f" Re-ranking {k} gives {accuracy:.3f}, {normalised:.3f} of those found." if k == TOP else ""
    return (
        f"The {encoder} finds the entity among its first {k} for {_recall(encoder)[k]:.3f} of the mentions in plays "
        f"that it has not read, so no re-ranker of {k} comes higher.{again}"
    )
