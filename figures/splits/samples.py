"""Figures of knowledge moved without data: what a generator draws under each loss, and adaptation without labels."""

import functools
from statistics import fmean, stdev

from effattn_core.recordings import measured
from figures import theme

RUN = "splits/training-cpu"
BALANCES = {"no balance of classes": 0.0, "classes balanced": 5.0}
MATCHINGS = (0.0, 0.1, 1.0, 10.0)
SIDE, APART, ROWS = 8, 1, 2
ADAPTED = (
    "source alone", "new BatchNorm statistics", "entropy alone", "pseudo-labels alone", "entropy and diversity",
    "entropy, diversity, pseudo-labels",
)  # fmt: skip
TARGETS = {"all ten digits": "all", "digits 0 to 4 alone": "0 to 4"}


@functools.cache
def _drawn(balance, matching):
    """(student's mean accuracy, teacher's mean confidence, the ten images, what the teacher reads)."""
    rows = measured(RUN, what="student", arm="generator", balance=BALANCES[balance], matching=matching)
    (shown,) = [row for row in rows if "images" in row]
    return fmean(r["accuracy"] for r in rows), fmean(r["sure"] for r in rows), shown["images"], shown["read"]


def samples(balance="classes balanced", matching=0.0):
    """What convinces a teacher? Ten images that a generator made for it, and what a student learns from such."""
    import plotly.graph_objects as go

    accuracy, sure, images, read = _drawn(balance, matching)
    wide, columns = SIDE + APART, len(images) // ROWS
    sheet = [[None] * (wide * columns - APART) for _ in range(wide * ROWS - APART)]
    for place, image in enumerate(images):
        top, left = wide * (place // columns), wide * (place % columns)
        for row in range(SIDE):
            sheet[top + row][left : left + SIDE] = image[SIDE * row : SIDE * (row + 1)]
    heat = go.Heatmap(z=sheet, colorscale=theme.MAGNITUDE, zmin=0, zmax=1, showscale=False, hoverinfo="skip")
    title = f"<b>teacher is {sure:.0%} sure; its student reads {accuracy:.0%} of real digits</b>"
    kinds = len(set(read))
    blank = dict(showgrid=False, showticklabels=False, showline=False)
    return theme.figure(
        heat, height=300, annotations=[theme.heading(title)], margin=dict(l=8, r=8, t=30, b=30),
        meta=dict(narrow={"annotations.0.text": f"<b>sure {sure:.0%}, student {accuracy:.0%}</b>"}),
        xaxis=dict(title=dict(text=f"the teacher reads {kinds} different digit{'s' * (kinds != 1)} here"), **blank),
        yaxis=dict(autorange="reversed", scaleanchor="x", **blank),
    )  # fmt: skip


def samples_says(balance="classes balanced", matching=0.0):
    """`samples` in a sentence."""
    accuracy, sure, _, read = _drawn(balance, matching)
    matched = f"BatchNorm matched with weight {matching:g}" if matching else "BatchNorm not matched"
    return (
        f"With {balance} and {matched} the teacher is {sure:.0%} sure of the images and reads {len(set(read))} "
        f"different digits in ten of them; a student of such images reads {accuracy:.0%} of MNIST."
    )


def scores(arm, classes="all"):
    """Accuracies on the target over the teachers."""
    return [row["accuracy"] for row in measured(RUN, what="adapted", arm=arm, classes=classes)]


def adaptation(target="all ten digits"):
    """Does adapting without labels help? Accuracy on the other collection, with one sd over three teachers."""
    import plotly.graph_objects as go

    found = {arm: scores(arm, TARGETS[target]) for arm in ADAPTED}
    base, traces = fmean(found["source alone"]), []
    for arm in ADAPTED:
        worse = fmean(found[arm]) < base
        mark = dict(size=10, color=theme.VERMILLION if worse else theme.BLUE, symbol="x" if worse else "circle")
        error = dict(type="data", array=[round(stdev(found[arm]), 4)], color=mark["color"], thickness=2)
        traces.append(go.Scatter(x=[round(fmean(found[arm]), 4)], y=[arm], mode="markers", marker=mark, error_x=error,
                                 name=arm, hovertemplate="%{y}: %{x:.3f}<extra></extra>"))  # fmt: skip
    gain = fmean(found["entropy and diversity"]) - base
    title = f"<b>entropy and diversity: {gain:+.3f}</b>"
    line = dict(type="line", x0=base, x1=base, yref="y domain", y0=0, y1=1, line=dict(color=theme.INK, dash="dot"))
    return theme.figure(
        *traces, height=320, annotations=[theme.heading(title)], shapes=[line], showlegend=False,
        margin=dict(l=8, r=8, t=30, b=8), meta=dict(narrow={"annotations.0.text": f"<b>{gain:+.3f}</b>"}),
        xaxis=dict(range=[0.45, 1.0], title=dict(text="accuracy on the other collection")),
        yaxis=dict(autorange="reversed"),
    )  # fmt: skip


def adaptation_says(target="all ten digits"):
    """`adaptation` in a sentence."""
    base, moved = (fmean(scores(arm, TARGETS[target])) for arm in ("source alone", "entropy and diversity"))
    word = "helps" if moved > base else "harms"
    return (
        f"With {target} in the target, adapting by entropy and diversity {word}: {moved:.3f} against {base:.3f} of the "
        "unchanged model."
    )
