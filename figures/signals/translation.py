"""What does a stronger style cost in content, and who overrates it? The recorded run, with four of its sentences."""

import textwrap
from statistics import fmean

from effattn_core.recordings import measured
from figures import theme

RUN = "signals/weights-cpu"
WIDE, NARROW = 84, 44  # letters of a line
ARMS = {  # what the control says -> (arm, strength)
    "copied": ("copy", None),
    "λ = 0": ("table", 0.0),
    "λ = 1.5": ("table", 1.5),
    "λ = 3": ("table", 3.0),
    "λ = 6": ("table", 6.0),
    "λ = 1.5, back-translated": ("back-translated", 1.5),
    "λ = 1.5, back-translated, weighted": ("back-translated, weighted", 1.5),
}
QUOTES = (1, 2, 3, 4)


def _mean(field, name):
    arm, strength = ARMS[name]
    return fmean(row[field] for row in measured(RUN, what="style", arm=arm, strength=strength))


def _said(quote, name):
    """(text, output) of a recorded sample."""
    arm, strength = ARMS[name]
    row = measured(RUN, what="sample", arm=arm, strength=strength)[quote - 1]
    return row["text"], row["output"]


def styled(how="λ = 1.5", quote=1):
    """Style against content, by two classifiers, with one quote rewritten."""
    import plotly.graph_objects as go

    kept = [_mean("kept", name) for name in ARMS]
    place, traces = list(ARMS).index(how), []
    for field, name, colour, symbol in (
        ("guide", "the guide, which trained the tables", theme.VERMILLION, "diamond-open"),
        ("judge", "the judge, of other films", theme.BLUE, "circle"),
    ):
        traces.append(
            go.Scatter(
                x=[round(each, 3) for each in kept], y=[round(_mean(field, each), 3) for each in ARMS], mode="markers",
                name=name, marker=dict(symbol=symbol, color=colour, size=[17 if each == place else 8
                                                                         for each in range(len(ARMS))]),
                text=list(ARMS), hovertemplate="%{text}: kept %{x:.2f}, style %{y:.2f}<extra></extra>",
            )
        )  # fmt: skip
    text, output = _said(quote, how)
    lines = [text, f"→ {output}", f"kept {kept[place]:.2f}, judge {_mean('judge', how):.2f}"]
    wide, narrow = (
        "<br>".join("<br>".join(textwrap.wrap(each, width)) for each in lines) for width in (WIDE, NARROW)
    )  # fmt: skip
    return theme.figure(
        *traces, height=430, annotations=[theme.heading(wide)], showlegend=True, margin=dict(l=8, r=8, t=150, b=8),
        meta=dict(narrow={"annotations.0.text": narrow}), legend=dict(y=-0.25, yanchor="top"),
        xaxis=dict(title=dict(text="share of words kept"), range=[0.5, 1.05]),
        yaxis=dict(title=dict(text="share in the style"), range=[0.2, 1.05]),
    )  # fmt: skip


def styled_says(how="λ = 1.5", quote=1):
    """`styled` in a sentence."""
    text, output = _said(quote, how)
    return (
        f"{how}: kept {_mean('kept', how):.2f}, in the style by the judge {_mean('judge', how):.2f}, by the guide "
        f"{_mean('guide', how):.2f}; “{text}” becomes “{output}”."
    )
