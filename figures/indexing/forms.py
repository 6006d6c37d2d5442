"""Figures of the chapter on one shared index, one idea each; a builder and, in words, its sentence.

What layers look at and what one list gives them, how two sorted lists are merged, what a list covers as layers agree
less, what scoring, top-k and attention cost as layers share, and what a trained YOCO's list covers.
"""

import functools

import torch

from effattn_core import costs
from effattn_core.indexing import choose_rows
from effattn_core.indexing import costs as prices
from effattn_core.indexing.neighbours import agreeing_layers, coverage
from effattn_core.recordings import measured
from figures import theme

RUN = "indexing/training-cpu"
SHOWN_AGREEMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
TOKENS, LAYERS, PICKED, QUERY = 48, 6, 6, 7
# Name in the recorded rows: words, colour, dash, symbol.
CHOICES = {
    "per layer": ("a list for each layer, by its own attention", theme.VERMILLION, "dash", "square"),
    "shared oracle": ("one list, by the mean attention", theme.BLUE, "solid", "circle"),
    "trained shared": ("one list, by a trained indexer", theme.GREEN, "dashdot", "diamond"),
    "layer 0's": ("one list, by layer 0's attention", theme.ORANGE, "dot", "triangle-up"),
    "random": ("one list, at random", theme.QUIET, "longdash", "cross"),
}


@functools.cache
def _picked(agreement, shared):
    """(weights [layers][tokens] of one query, rows chosen by layer, mass caught by layer), rounded for any machine."""
    found = agreeing_layers(agreement, tokens=TOKENS, layers=LAYERS, sharpness=5.0, seed=3)
    weights = found.weights[:, :, QUERY : QUERY + 1]
    teacher = weights.mean(0, keepdim=True).expand_as(weights) if shared else weights
    rows = torch.stack([choose_rows(each, PICKED, 0) for each in teacher])
    return (weights[:, 0, 0] * 1000).round().div(1000).tolist(), rows[:, 0, 0].tolist(), [
        round(share, 2) for share in coverage(weights, rows).tolist()]  # fmt: skip


def picks(agreement=0.75, shared=True):
    """Can one list serve all layers? What each layer's query attends to, and the rows that are read for it."""
    import plotly.graph_objects as go

    weights, rows, caught = _picked(agreement, shared)
    heat = go.Heatmap(
        z=weights, zmin=0, zmax=0.4, colorscale=[[0, theme.PAPER], [1, theme.BLUE]], showscale=False, xgap=1, ygap=3,
        hovertemplate="layer %{y}, token %{x}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    marks = go.Scatter(
        x=[row for each in rows for row in each], y=[layer for layer, each in enumerate(rows) for _ in each],
        mode="markers", marker=dict(symbol="square-open", size=11, color=theme.VERMILLION, line=dict(width=2)),
        hoverinfo="skip",
    )  # fmt: skip
    bars = go.Bar(
        x=caught, y=list(range(LAYERS)), orientation="h", xaxis="x2", width=0.6, marker=dict(color=theme.GREEN),
        text=[f"{share:.0%}" for share in caught], textposition="inside", insidetextanchor="start", textangle=0,
        insidetextfont=dict(color="#000000", size=theme.SMALL), hovertemplate="layer %{y}: %{x:.0%}<extra></extra>",
    )  # fmt: skip
    distinct = len({row for each in rows for row in each})
    title = f"<b>{'One list' if shared else 'One list per layer'}</b>: {distinct} rows are read"
    return theme.figure(
        heat, marks, bars, height=330, showlegend=False, margin=dict(t=30, l=8, r=24, b=8),
        meta=dict(narrow={"xaxis.domain": [0, 0.68], "xaxis2.domain": [0.76, 0.97], "xaxis2.tickvals": [0, 1]}),
        annotations=[theme.heading(title), {**theme.heading("<b>caught</b>", "2"), "yref": "y domain"}],
        xaxis=dict(domain=[0, 0.76], title=dict(text="token"), range=[-0.6, TOKENS - 0.4], showgrid=False),
        xaxis2=dict(domain=[0.8, 1], anchor="y", range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%",
                    title=dict(text="attention")),
        yaxis=dict(title=dict(text="layer"), tickvals=list(range(LAYERS)), range=[LAYERS - 0.4, -0.6], showgrid=False),
    )  # fmt: skip


def picks_says(agreement=0.75, shared=True):
    """`picks` in a sentence."""
    _, rows, caught = _picked(agreement, shared)
    kind = "one list for all layers" if shared else "a list for each layer"
    return (
        f"Layers that agree to {agreement:.0%}, {kind} of {PICKED} rows: {len({r for each in rows for r in each})} "
        f"different rows are read, and the layers catch {min(caught):.0%} to {max(caught):.0%} of their attention."
    )


def agreements():
    """Agreements of the recorded run, in order."""
    return sorted({row["agreement"] for row in measured(RUN, what="agreement")})


def caught_at(agreement, name):
    """(mean, least, most) over seeds of the coverage that was recorded."""
    found = [row["coverage"][name] for row in measured(RUN, what="agreement", agreement=agreement)]
    return sum(found) / len(found), min(found), max(found)


def covered(agreement=0.5):
    """What does a list cover as layers agree less? A line per choice, least and most over seeds; one agreement told."""
    import plotly.graph_objects as go

    places, traces = agreements(), []
    for name, (words, colour, dash, symbol) in CHOICES.items():
        mean, low, high = zip(*(caught_at(each, name) for each in places), strict=True)
        traces.append(go.Scatter(
            x=places, y=mean, mode="lines+markers", name=f"{words}: {caught_at(agreement, name)[0]:.1%}",
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=9),
            error_y=dict(type="data", symmetric=False, color=colour, thickness=1.5, width=4,
                         array=[top - middle for top, middle in zip(high, mean, strict=True)],
                         arrayminus=[middle - bottom for middle, bottom in zip(mean, low, strict=True)]),
            hovertemplate="%{y:.1%}<extra>" + words + "</extra>",
        ))  # fmt: skip
    here = dict(type="line", x0=agreement, x1=agreement, y0=0, y1=1, yref="y domain",
                line=dict(color=theme.INK, width=2, dash="dot"))  # fmt: skip
    return theme.figure(
        *traces, height=460, shapes=[here], showlegend=True, margin=dict(t=8, l=8, r=14, b=8),
        legend=dict(orientation="v", x=0, y=-0.2, yanchor="top"),
        xaxis=dict(range=[-0.03, 1.03], tickvals=places, tickformat=".0%", title=dict(text="agreement of the layers")),
        yaxis=dict(range=[0, 1.03], tickformat=".0%", title=dict(text="attention covered by 32 of 512 tokens")),
    )  # fmt: skip


def covered_says(agreement=0.5):
    """`covered` in a sentence."""
    parts = [f"{words} {caught_at(agreement, name)[0]:.1%}" for name, (words, *_) in CHOICES.items()]
    return f"Layers that agree to {agreement:.0%}, 32 of 512 tokens cover: {'; '.join(parts)}."


# Two sorted lists of four become the best four: (what is done, the numbers after it, the columns that it compares).
MERGE = (
    ("the list so far, falling", (9, 7, 4, 2), ()),
    ("four new scores, rising", (1, 3, 6, 8), ()),
    ("the larger of each column", (9, 7, 6, 8), ()),
    ("swap two apart, if rising", (9, 8, 6, 7), ((0, 2), (1, 3))),
    ("swap neighbours, if rising", (9, 8, 7, 6), ((0, 1), (2, 3))),
)


def merge_of_lists():
    """How are two sorted lists merged to the best half, without sorting again? Eight numbers, three steps."""
    import plotly.graph_objects as go

    tops = [max(pair) for pair in zip(MERGE[0][1], MERGE[1][1], strict=True)]
    new = [[row == 1 or (row > 1 and number in MERGE[1][1]) for number in numbers]
           for row, (_, numbers, _) in enumerate(MERGE)]  # fmt: skip
    traces = [
        go.Scatter(
            x=[column for column in range(4) for row in range(len(MERGE)) if new[row][column] == fresh],
            y=[row for column in range(4) for row in range(len(MERGE)) if new[row][column] == fresh],
            text=[str(MERGE[row][1][column]) for column in range(4) for row in range(len(MERGE))
                  if new[row][column] == fresh],
            mode="markers+text", name=name, hoverinfo="skip", textfont=dict(size=theme.LARGE, color=theme.INK),
            marker=dict(symbol=symbol, size=34, color=colour, line=dict(width=3)),
        )
        for fresh, name, symbol, colour in (
            (False, "from the list", "circle-open", theme.BLUE), (True, "new", "square-open", theme.VERMILLION)
        )
    ]  # fmt: skip
    losers = [(column, row) for row in (0, 1) for column in range(4) if MERGE[row][1][column] != tops[column]]
    traces.append(go.Scatter(
        x=[x for x, _ in losers], y=[y for _, y in losers], mode="markers", name="smaller: dropped", hoverinfo="skip",
        marker=dict(symbol="x-thin", size=24, line=dict(color=theme.QUIET, width=2)),
    ))  # fmt: skip
    arcs = [dict(type="line", x0=left + 0.17, x1=right - 0.17, y0=row - 0.5 + 0.12 * place, y1=row - 0.5 + 0.12 * place,
                 line=dict(color=theme.INK, width=2))
            for row, (_, _, pairs) in enumerate(MERGE) for place, (left, right) in enumerate(pairs)]  # fmt: skip
    notes = [dict(text=text, x=3.45, y=row, xanchor="left", showarrow=False, font=dict(size=theme.NORMAL))
             for row, (text, *_) in enumerate(MERGE)]  # fmt: skip
    hidden = dict(showticklabels=False, showgrid=False, ticks="")
    return theme.figure(
        *traces, height=380, shapes=arcs, annotations=notes, showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        meta=dict(narrow={f"annotations.{each}.font.size": theme.SMALL for each in range(len(MERGE))}),
        xaxis=dict(range=[-0.6, 7.2], **hidden), yaxis=dict(range=[len(MERGE) - 0.5, -0.6], **hidden),
    )  # fmt: skip


def merge_of_lists_says():
    """`merge_of_lists` in a sentence."""
    steps = "; ".join(f"{text}: {' '.join(map(str, numbers))}" for text, numbers, _ in MERGE)
    return f"Two lists of four become the best four: {steps}."


CONTEXTS, SHARING, READERS = (8192, 32768, 131072, 524288), (1, 2, 4, 8, 16), 16
PARTS = (
    ("scoring: index keys", theme.ORANGE, "/"),
    ("top-k: the row of scores", theme.VERMILLION, "x"),
    ("attention: chosen rows", theme.BLUE, ""),
)


def parts_of(context, sharing, running, top_k=prices.TOP_K):
    """Bytes of scoring, top-k and attention of one token in READERS layers, an index for each `sharing` of them.

    running: the list is kept on the chip; else a score of four bytes is written and read again for every token.
    """
    step = prices.step(context, READERS, 4, 128, top_k=top_k)
    indexes = READERS // sharing
    return indexes * step.index, 0 if running else indexes * 2 * 4 * context, step.rows


def cost(context=131072, running=False):
    """What do scoring, top-k and attention cost as layers share an index? One stacked bar per number of layers."""
    import plotly.graph_objects as go

    dense = prices.step(context, READERS, 4, 128, top_k=None).total
    columns = list(zip(*(parts_of(context, sharing, running) for sharing in SHARING), strict=True))
    traces = [
        go.Bar(x=list(range(len(SHARING))), y=[each / dense for each in column], name=name, width=0.6,
               customdata=[costs.format_bytes(each) for each in column],
               marker=theme.hatched(colour, shape),
               hovertemplate=name + ": %{customdata}<extra></extra>")
        for (name, colour, shape), column in zip(PARTS, columns, strict=True)
    ]  # fmt: skip
    total = sum(parts_of(context, READERS, running))
    title = f"Dense: <b>{costs.format_bytes(dense)}</b> per token; one index: <b>{costs.format_bytes(total)}</b>"
    return theme.figure(
        *traces, height=380, barmode="stack", showlegend=True, annotations=[theme.heading(title)],
        legend=dict(y=0, yanchor="bottom", yref="container", traceorder="normal"), margin=dict(t=30, l=8, r=8, b=76),
        xaxis=dict(tickvals=list(range(len(SHARING))), ticktext=[str(each) for each in SHARING],
                   title=dict(text="layers that share an index, of 16")),
        yaxis=dict(tickformat=".0%", title=dict(text="bytes over dense"), rangemode="tozero"),
    )  # fmt: skip


def cost_says(context=131072, running=False):
    """`cost` in a sentence."""
    dense = prices.step(context, READERS, 4, 128, top_k=None).total
    first, last = (sum(parts_of(context, sharing, running)) for sharing in (SHARING[0], SHARING[-1]))
    kind = "with a running top-k" if running else "with scores written and read again"
    return (
        f"{theme.tokens(context)} tokens, {kind}: one index per layer reads {first / dense:.1%} of dense decoding's "
        f"bytes, one index for all sixteen layers {last / dense:.1%}."
    )


# Name in the recorded rows of the trained YOCO: words.
TEXT_CHOICES = {
    "per layer": "list per layer, its attention",
    "trained per layer": "list per layer, taught",
    "shared oracle": "one list, mean attention",
    "trained shared": "one list, taught",
    "newest": "the newest",
    "random": "random",
}


def text_rows(stage="indexer alone"):
    """Recorded rows of the trained YOCO at one stage, by tokens read."""
    rows = [row for row in measured(RUN, what="text", stage=stage) if row["top_k"]]
    return sorted(rows, key=lambda row: (row["top_k"], row["seed"]))


def _curves(stage):
    """name -> [(tokens read, mean coverage over layers and seeds)]."""
    found = {}
    for row in text_rows(stage):
        for name in TEXT_CHOICES:
            if name in row["coverage"]:
                found.setdefault(name, {}).setdefault(row["top_k"], []).extend(row["coverage"][name])
    return {name: [(k, sum(each) / len(each)) for k, each in by.items()] for name, by in found.items()}


def text(stage="indexer alone"):
    """How much of a trained YOCO's attention does a list of k letters cover? One line per way of choosing."""
    import plotly.graph_objects as go

    from figures.measured import looks

    curves = _curves(stage)
    traces = [
        go.Scatter(
            x=[k for k, _ in curves[name]], y=[share for _, share in curves[name]], mode="lines+markers",
            name=TEXT_CHOICES[name], line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=9),
            hovertemplate="%{x} letters: %{y:.0%}<extra>" + TEXT_CHOICES[name] + "</extra>",
        )
        for name, colour, dash, symbol in looks(list(curves))
    ]  # fmt: skip
    ticks = sorted({k for each in curves.values() for k, _ in each})
    return theme.figure(
        *traces, height=380, showlegend=True,
        xaxis=dict(type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks],
                   title=dict(text="letters read, of up to 256")),
        yaxis=dict(range=[0, 1.02], tickformat=".0%", title=dict(text="attention covered, mean over layers")),
    )  # fmt: skip


def text_says(stage="indexer alone"):
    """`text` in a sentence."""
    ends = "; ".join(
        f"{TEXT_CHOICES[name]}: {each[0][1]:.0%} to {each[-1][1]:.0%}" for name, each in _curves(stage).items()
    )
    return f"Attention covered as lists grow from 4 to 64 letters: {ends}."
