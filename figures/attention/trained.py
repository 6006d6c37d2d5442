"""Figures of the attention chapter from SmolLM2: where its heads look, and what it loses with its first token."""

from statistics import fmean

from effattn_core.attention import sinks
from figures import theme

SHADES = [[0, "rgba(0,114,178,0)"], [1, theme.BLUE]]  # from nothing to all, on light and dark pages
VIEWS = ("nats per token", "more than with every key")
LOOKS = {
    sinks.WHOLE: ("119,119,119", theme.INK, "solid"),
    "window of 256": ("213,94,0", theme.VERMILLION, "solid"),
    "window of 255, 1 sink": ("0,114,178", theme.BLUE, "solid"),
    "window of 252, 4 sinks": ("0,158,115", theme.GREEN, "dot"),
}


def _lines(view):
    """The [passages][buckets] of each reading that is drawn."""
    readings = sinks.recorded()[1]
    if view == VIEWS[0]:
        return {name: reading.passages for name, reading in readings.items()}
    if view == VIEWS[1]:
        return {name: sinks.dearer(name) for name in readings if name != sinks.WHOLE}
    raise ValueError(f"view must be one of {', '.join(VIEWS)}; it is {view!r}.")


def leaving(view=VIEWS[1]):
    """When does a window begin to hurt? SmolLM2's loss along a text, with every key, a window, a window and sinks.

    Lines are means of the passages, bands reach from the least to the most. view: the losses, or how much more they
    are than with every key.
    """
    import plotly.graph_objects as go

    bucket, kept = sinks.recorded()[0], sinks.kept()
    bands, lines = [], []
    for name, passages in _lines(view).items():
        tint, colour, dash = LOOKS[name]
        buckets = list(zip(*passages, strict=True))
        x = [bucket * (place + 0.5) for place in range(len(buckets))]
        bands.append(go.Scatter(
            x=[*x, *reversed(x)], y=[*map(max, buckets), *reversed([min(each) for each in buckets])], mode="lines",
            line=dict(width=0), fill="toself", fillcolor=f"rgba({tint},0.18)", hoverinfo="skip", showlegend=False,
        ))  # fmt: skip
        lines.append(go.Scatter(
            x=x, y=list(map(fmean, buckets)), mode="lines", name=name, line=dict(color=colour, dash=dash, width=3),
            hovertemplate="near token %{x:,.0f}: %{y:.2f}<extra>" + name + "</extra>",
        ))  # fmt: skip
    edge = dict(type="line", x0=kept, x1=kept, yref="paper", y0=0, y1=1, line=dict(color=theme.INK, dash="longdash"))
    note = dict(text="token 0 leaves<br>the window", x=kept, xanchor="left", xshift=4, yref="paper", y=1,
                yanchor="top", align="left", showarrow=False, font=dict(size=theme.SMALL))  # fmt: skip
    length = bucket * len(x)
    ticks = [0, *(1024 * step for step in range(1, length // 1024 + 1))]
    titles = {VIEWS[0]: "loss, nats per token", VIEWS[1]: "nats per token more<br>than with every key"}
    return theme.figure(
        *bands, *lines, height=400, shapes=[edge], annotations=[note], showlegend=True,
        margin=dict(l=8, r=16, t=8, b=8),
        xaxis=dict(title=dict(text="place in the text, tokens"), tickvals=ticks, range=[0, length],
                   ticktext=[theme.tokens(tick) for tick in ticks]),
        yaxis=dict(title=dict(text=titles[view])),
    )  # fmt: skip


def leaving_says(view=VIEWS[1]):
    """`leaving` in a sentence."""
    first = sinks.kept() // sinks.recorded()[0]
    parts = []
    for name, passages in _lines(view).items():
        near, late = (fmean(fmean(each[part]) for each in passages) for part in (slice(first), slice(first, None)))
        parts.append(f"{name} {near:.2f}, then {late:.2f}")
    what = "Nats per token" if view == VIEWS[0] else f"Nats per token {view}"
    return f"{what}, before token {sinks.kept()} and after it: {'; '.join(parts)}."


def head_map(weights, words, layer=17, head=5):
    """Where does a head look? The weights of one head of a trained model over one sentence, and its share on token 0.

    weights: [layers][heads][queries][keys], in percent, whole numbers; words: of the tokens. The panel beside it gives
    the mean share on the first token for every head, of all queries but the first.
    """
    import plotly.graph_objects as go

    count, layers, heads = len(words), len(weights), len(weights[0])
    place = list(range(count))
    shares = [[_rests(one) for one in row] for row in weights]
    grid = dict(zmin=0, zmax=100, colorscale=SHADES, showscale=False)
    traces = [
        go.Heatmap(z=weights[layer][head], x=place, y=place, xgap=1, ygap=1, **grid,
                   hovertemplate="query %{y}, key %{x}: %{z} %<extra></extra>"),
        go.Heatmap(z=shares, xaxis="x2", yaxis="y2", **grid,
                   hovertemplate="layer %{y}, head %{x}: %{z:.0f} % on the first token<extra></extra>"),
        go.Scatter(x=[head], y=[layer], mode="markers", xaxis="x2", yaxis="y2", hoverinfo="skip",
                   marker=dict(symbol="square-open", size=15, color=theme.VERMILLION, line=dict(width=3))),
    ]  # fmt: skip
    stair = "M -0.5,-0.5 " + " ".join(f"H {at + 0.5} V {at + 0.5}" for at in place) + " H -0.5 Z"
    names = dict(tickvals=place, ticktext=list(words), showgrid=False, ticks="", range=[-0.6, count - 0.4])
    blank = dict(showgrid=False, ticks="")
    key = f'□ 0 to <span style="color:{theme.BLUE}">■</span> 100 %'
    narrow = {
        "height": 900, "xaxis.domain": [0, 1], "yaxis.domain": [0.57, 0.95], "xaxis2.domain": [0, 1],
        "yaxis2.domain": [0, 0.43],
    }  # fmt: skip
    return theme.figure(
        *traces, height=460, showlegend=False, meta=dict(narrow=narrow),
        annotations=[theme.heading(f"<b>Weights</b> of the head, {key}"),
                     theme.heading("<b>Share on the first token</b>", "2")],
        shapes=[dict(type="path", path=stair, line=dict(color=theme.QUIET, width=1))],
        xaxis=dict(domain=[0, 0.6], title=dict(text="key"), tickangle=-90, **names),
        yaxis=dict(domain=[0, 0.94], title=dict(text="query"), **{**names, "range": [count - 0.4, -0.6]}),
        xaxis2=dict(domain=[0.7, 1], anchor="y2", title=dict(text="head"), tickvals=list(range(heads)),
                    range=[-0.5, heads - 0.5], **blank),
        yaxis2=dict(domain=[0, 0.94], anchor="x2", title=dict(text="layer"), dtick=5, range=[layers - 0.5, -0.5],
                    **blank),
    )  # fmt: skip


def _rests(weights):
    """The mean weight on the first key of all queries but the first, which sees no other."""
    return fmean(float(row[0]) for row in weights[1:])


def head_map_says(weights, words, layer=17, head=5):
    """`head_map` in a sentence: the share on the first token, and which query looks elsewhere most."""
    one = weights[layer][head]
    weight, query, key = max((float(one[q][k]), q, k) for q in range(1, len(words)) for k in range(1, q + 1))
    return (
        f"On average {_rests(one):.0f} % on “{words[0]}”; elsewhere most: {weight:.0f} %, “{words[query]}” ({query}) "
        f"on “{words[key]}” ({key})."
    )
