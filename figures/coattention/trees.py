"""A figure of trees: how verbs are found by words between, by one parse and by two, as the parses get worse."""

import functools
from statistics import fmean

from effattn_core.coattention.trees import COLUMNS
from effattn_core.recordings import measured
from figures import theme

RUN, DEPTHS = "coattention/graphs-cpu", (2, 5)
COLOURS = dict(zip(COLUMNS, (theme.VERMILLION, theme.SKY, theme.ORANGE, theme.BLUE, theme.GREEN), strict=True))


@functools.cache
def _told(depth):
    """arm -> {error: mean accuracy over seeds}."""
    rows = measured(RUN, mechanism="trees", depth=depth)
    errors = sorted({row["error"] for row in rows})
    return {
        arm: {
            error: round(fmean(row["score"] for row in rows if row["arm"] == arm and row["error"] == error), 3)
            for error in errors
        }
        for arm in COLUMNS
    }


def parsers(depth=2):
    """What do parses still help when they err? Right verbs by the share of wrong heads and spans."""
    import plotly.graph_objects as go

    told = _told(depth)
    traces = [
        go.Scatter(x=list(line), y=list(line.values()), name=arm, mode="lines+markers",
                   line=dict(color=COLOURS[arm], dash="dot" if arm == "linear" else "solid"),
                   hovertemplate=f"{arm}, %{{x:.0%}} wrong: %{{y:.3f}}<extra></extra>")
        for arm, line in told.items()
    ]  # fmt: skip
    return theme.figure(
        *traces, height=400, margin=dict(l=8, r=8, t=60, b=8),
        xaxis=dict(title=dict(text="heads and spans that are wrong"), tickformat=".0%"),
        yaxis=dict(title=dict(text="right verbs"), range=[0.4, 1.02]),
    )  # fmt: skip


def parsers_says(depth=2):
    """`parsers` in a sentence."""
    told = _told(depth)
    low, high = min(told["all"]), max(told["all"])
    first, last = ({arm: line[error] for arm, line in told.items()} for error in (low, high))
    return (
        f"Clauses at most {depth} deep, from perfect to {high:.0%} wrong: both trees {first['both trees']:.2f} to "
        f"{last['both trees']:.2f}; at the end dependency alone {last['dependency']:.2f}, words between "
        f"{last['linear']:.2f}, all {last['all']:.2f}."
    )
