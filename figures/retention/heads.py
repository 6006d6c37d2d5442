"""A figure of how far back the heads of a trained softmax model look, beside retention's fades: from a recording."""

import math

from effattn_core.retention import reach
from figures import theme
from figures.retention.forms import count, life, schedule_of

LAYERS = tuple(dict.fromkeys(each.layer for each in reach.recorded()[1]))
BEYOND = 2048  # where a head stands that has more than half of its attention beyond the longest distance
FADES = schedule_of("code")
FASTEST = life(FADES[0])
STEPS = tuple(round(2 ** (power / 4), 3) for power in range(41))  # tokens at which smooth curves are drawn


def _place(tokens):
    """Where a half is drawn: as it is, or on the uppermost line if it is further than was looked."""
    return min(tokens, BEYOND)


def _of(layer):
    """(distances, the heads of a layer). Raises ValueError for a layer that the model does not have."""
    distances, heads = reach.recorded()
    if layer not in LAYERS:
        raise ValueError(f"layer must lie in 0..{LAYERS[-1]}; it is {layer}.")
    return distances, [each for each in heads if each.layer == layer]


def looks(layer=17):
    """How far back does each head of a layer look? Shares of its attention within n tokens, and where half is reached.

    Left, the heads of one layer, retention's eight fades, and equal weights for all. Right, where half is reached, for
    the heads of all layers; bars from the least to the most of three passages.
    """
    import plotly.graph_objects as go

    distances, heads = _of(layer)
    every = reach.recorded()[1]
    fades = dict(x=[], y=[])
    for decay in FADES:
        fades["x"] += [*STEPS, None]
        fades["y"] += [*reach.fading_shares(decay, STEPS), None]
    traces = [
        go.Scatter(**fades, mode="lines", name="retention's eight fades", hoverinfo="skip",
                   line=dict(color=theme.QUIET, width=1.5, dash="dot")),
        go.Scatter(x=list(STEPS), y=list(reach.equal_shares(STEPS)), mode="lines", name="equal weights for all tokens",
                   line=dict(color=theme.INK, width=3, dash="dash"), hoverinfo="skip"),
    ]  # fmt: skip
    near, far = ([each for each in heads if (each.half < FASTEST) == nearer] for nearer in (True, False))
    kinds = [
        ("heads that reach half before every fade", theme.VERMILLION, "diamond", near),
        ("other heads", theme.BLUE, "circle", far),
    ]
    panel = dict(xaxis="x2", yaxis="y2")
    other = [each for each in every if each.layer != layer]
    rest = go.Scatter(x=[each.layer for each in other], y=[_place(each.half) for each in other], mode="markers",
                      marker=dict(size=4, color=theme.QUIET), showlegend=False, hoverinfo="skip", **panel)  # fmt: skip
    halves = []
    for name, colour, symbol, chosen in kinds:
        lines = dict(x=[], y=[], text=[])
        for each in chosen:
            lines["x"] += [*distances, None]
            lines["y"] += [*each.shares, None]
            lines["text"] += [f"head {each.head}"] * (len(distances) + 1)
        traces.append(go.Scatter(
            **lines, mode="lines+markers", name=name, line=dict(color=colour, width=2),
            marker=dict(symbol=symbol, size=5),
            hovertemplate="%{text}: %{y:.0%} within %{x} tokens<extra></extra>",
        ))  # fmt: skip
        at = [_place(each.half) for each in chosen]
        bars = dict(type="data", symmetric=False, thickness=1.5, width=3, color=colour,
                    array=[_place(max(each.halves)) - y for each, y in zip(chosen, at, strict=True)],
                    arrayminus=[y - min(each.halves) for each, y in zip(chosen, at, strict=True)])  # fmt: skip
        halves.append(go.Scatter(
            x=[layer] * len(chosen), y=at, error_y=bars, mode="markers", showlegend=False, **panel,
            marker=dict(symbol=symbol, size=9, color=colour), text=[_words(each) for each in chosen],
            hovertemplate="%{text}<extra></extra>",
        ))  # fmt: skip
    marks = [dict(type="line", xref="x2 domain", x0=0, x1=1, yref="y2", y0=life(decay), y1=life(decay),
                  line=dict(color=theme.QUIET, width=1.5, dash="dot"))
             for decay in FADES if life(decay) < BEYOND]  # fmt: skip
    marks.append(dict(type="line", xref="x domain", x0=0, x1=1, yref="y", y0=0.5, y1=0.5,
                      line=dict(color=theme.QUIET, width=1, dash="dash")))  # fmt: skip
    annotations = [
        theme.heading(f"<b>Layer {layer}</b>: share of attention within n tokens"),
        theme.heading("<b>Half of it within</b>, tokens; dotted: half-lives", "2"),
    ]
    narrow = {"height": 860, "xaxis.domain": [0, 1], "yaxis.domain": [0.56, 0.94], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.42]}  # fmt: skip
    ticks = [1, 4, 16, 64, 256, 1024]
    names = [f"{each:,}" for each in ticks]
    return theme.figure(
        *traces, rest, *halves, height=440, annotations=annotations, shapes=marks, showlegend=True,
        meta=dict(narrow=narrow), legend=dict(y=1.02, yref="container", yanchor="top", traceorder="normal"),
        xaxis=dict(domain=[0, 0.48], type="log", range=[-0.05, 3.06], tickvals=ticks, ticktext=names,
                   title=dict(text="n, tokens")),
        yaxis=dict(domain=[0, 0.8], range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1],
                   ticktext=["0", "0.25", "half", "0.75", "1"]),
        xaxis2=dict(domain=[0.58, 1], anchor="y2", range=[-1, LAYERS[-1] + 1], title=dict(text="layer"), showgrid=False,
                    tickvals=list(range(0, LAYERS[-1] + 1, 5))),
        yaxis2=dict(domain=[0, 0.8], anchor="x2", type="log", range=[-0.1, math.log10(BEYOND) + 0.1], showgrid=False,
                    tickvals=[*ticks, BEYOND], ticktext=[*names, "more"]),
    )  # fmt: skip


def _tokens(half):
    return f"{count(half)}" if half < math.inf else f"more than {reach.recorded()[0][-1]:,}"


def _words(each):
    """A head in words: "head 3: half within 22 tokens, 18 to 40 in single passages"."""
    ends = f"{_tokens(min(each.halves))} to {_tokens(max(each.halves))}"
    return f"head {each.head}: half within {_tokens(each.half)} tokens, {ends} in single passages"


def looks_says(layer=17):
    """`looks` in a sentence."""
    _, heads = _of(layer)
    halves = sorted(each.half for each in heads)
    near = sum(half < FASTEST for half in halves)
    need = f"{near or 'none'} of them need{'s' * (near == 1)}"
    return (
        f"Layer {layer}: half of a head's attention lies within {_tokens(halves[0])} to {_tokens(halves[-1])} tokens, "
        f"{_tokens(halves[len(halves) // 2])} for the middle one of {len(halves)}; {need} fewer tokens than the "
        f"fastest fade, {count(FASTEST)}."
    )
