"""A figure of languages: which digit of one language each digit of the other lies nearest to."""

import functools

from effattn_core.recordings import measured
from figures import theme

RUN = "coattention/graphs-cpu"
TRIPLES = ("no triples", "0% mixed", "2% mixed", "10% mixed", "100% mixed")
SEEDS = (0, 1, 2)


@functools.cache
def _told(triples, seed):
    (row,) = measured(RUN, mechanism="languages", arm=triples, seed=seed)
    return row["likeness"], row["nearest"], row["score"]


def digits(triples="0% mixed", seed=0):
    """Where do two languages lie to each other? Cosines of the digits' mean codes, and what is answered across."""
    import plotly.graph_objects as go

    likeness, nearest, score = _told(triples, seed)
    own = sum(place == each for place, each in enumerate(nearest))
    names = list(range(10))
    traces = [
        go.Heatmap(z=likeness, x=names, y=names, colorscale=theme.MAGNITUDE, zmin=-1, zmax=1,
                   colorbar=dict(title="cosine", thickness=12),
                   hovertemplate="%{y} of language 2, %{x} of language 1: %{z:.2f}<extra></extra>"),
        go.Scatter(x=nearest, y=names, mode="markers", hoverinfo="skip",
                   marker=dict(symbol="circle-open", size=16, color=theme.VERMILLION, line=dict(width=3))),
    ]  # fmt: skip
    title = f"<b>{own} of 10 lie at their own digit</b>; 1 → 2 right {score['1 → 2']:.2f}"
    return theme.figure(
        *traces, height=420, annotations=[theme.heading(title)], showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={"annotations.0.text": f"<b>{own} of 10</b>; 1 → 2 {score['1 → 2']:.2f}"}),
        xaxis=dict(title=dict(text="digit of language 1"), tickvals=names, showgrid=False),
        yaxis=dict(title=dict(text="digit of language 2"), tickvals=names, autorange="reversed", showgrid=False),
    )  # fmt: skip


def digits_says(triples="0% mixed", seed=0):
    """`digits` in a sentence."""
    _, nearest, score = _told(triples, seed)
    own = sum(place == each for place, each in enumerate(nearest))
    return (
        f"Triples: {triples}, seed {seed}: {own} of 10 digits of language 2 lie nearest to the same digit of language "
        f"1; questions in 1 about pictures in 2 are right with {score['1 → 2']:.2f}, the other way with "
        f"{score['2 → 1']:.2f}."
    )
