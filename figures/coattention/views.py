"""A figure of views: the alignment of two speakers by time, and what the log-sum-exp says of each row."""

import functools

from effattn_core.coattention.attend import attend
from effattn_core.coattention.views import closeness, damped, timeline
from effattn_core.plays import plays
from figures import theme

PLAY, ASKS, ANSWERS = "Romeo and Juliet", "CAPULET", "TYBALT"
SPANS = (3.0, 10.0, 30.0)
NULL = -2.0  # score of the null key


@functools.cache
def _told(width, null):
    """(weights [visits, other visits], log-sum-exp [visits], times, others)."""
    (play,) = [each for each in plays() if each.title == PLAY]
    (times, _), (others, _) = timeline(play, ASKS), timeline(play, ANSWERS)
    zero, keys = times.new_zeros(len(times), 1), times.new_zeros(len(others), 1)
    bias = closeness(times, others, width)
    _, weight, log_sum_exp = attend(zero, keys, keys, bias=bias, scale=1.0)
    weight = damped(weight, log_sum_exp, NULL) if null else weight
    return weight, log_sum_exp, times, others


def alignment(width=10.0, null=False):
    """Which of Tybalt's speeches does each of Capulet's ask for? Weights by time, with and without a null key."""
    import plotly.graph_objects as go

    weight, log_sum_exp, times, others = _told(width, null)
    rows = [f"{each:.0f}" for each in times.tolist()]
    columns = [f"{each:.0f}" for each in others.tolist()]
    z = [[round(each, 3) for each in line] for line in weight.tolist()]
    depth = [round(max(each, -60.0), 2) for each in log_sum_exp.tolist()]
    traces = [
        go.Heatmap(z=z, x=columns, y=rows, colorscale=theme.MAGNITUDE, zmin=0, zmax=1,
                   colorbar=dict(title="weight", thickness=12),
                   hovertemplate="speech %{y} to %{x}: %{z:.3f}<extra></extra>"),
        go.Bar(x=depth, y=rows, orientation="h", xaxis="x2", marker=dict(color=theme.BLUE),
               hovertemplate="speech %{y}: %{x:.1f}<extra></extra>"),
    ]  # fmt: skip
    heads = [theme.heading(f"<b>weights</b>, {_dark(weight)} of {len(rows)} rows near 0"),
             theme.heading("log-sum-exp ≥ −60", axis="2")]  # fmt: skip
    blank = dict(type="category", showgrid=False)
    return theme.figure(
        *traces, height=440, annotations=heads, showlegend=False, margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(domain=[0, 0.66], title=dict(text="Tybalt's speech"), tickangle=-90, **blank),
        xaxis2=dict(domain=[0.72, 1], anchor="y", range=[-62, 4]),
        yaxis=dict(autorange="reversed", title=dict(text="Capulet's speech"), **blank),
    )  # fmt: skip


def _dark(weight):
    return (weight.sum(1) < 0.1).sum().item()


def alignment_says(width=10.0, null=False):
    """`alignment` in a sentence."""
    weight, log_sum_exp, _, _ = _told(width, null)
    sums = weight.sum(1)
    key = "with a null key" if null else "without a null key"
    return (
        f"Width {width:g}, {key}: the weights of {_dark(weight)} of Capulet's {len(sums)} speeches sum to less than "
        f"0.1; log-sum-exp runs from {log_sum_exp.min():.0f} to {log_sum_exp.max():.1f}."
    )
