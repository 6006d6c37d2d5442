"""Figures of the YOCO chapter, one idea each; a builder and, for those who cannot see it, its sentence.

What each layer keeps, what a prompt need not compute, memory and prompt time as the text grows beside the paper's rows,
the gate along a passage, and what a needle's depth does. What was measured over time is in `figures.measured`.
"""

import math

from effattn_core import costs
from effattn_core.yoco import costs as prices
from figures import theme

CONTEXTS = tuple(1 << power for power in range(12, 21))
# Colour and dash of each architecture, in every figure of the chapter.
LOOKS = {
    "Transformer": (theme.VERMILLION, "dot"),
    "grouped": (theme.ORANGE, "dash"),
    "YOCO, window": (theme.BLUE, "solid"),
    "YOCO, gated": (theme.GREEN, "dashdot"),
}
WORDS = {
    "Transformer": "Transformer, a cache for every head",
    "grouped": "Transformer, grouped heads",
    "YOCO, window": "YOCO, window of 1,024",
    "YOCO, gated": "YOCO, gated retention",
}
KINDS = {
    "cache": ("its own cache", theme.VERMILLION, "/"),
    "shared cache": ("the shared cache", theme.BLUE, ""),
    "window": ("a window", theme.ORANGE, "x"),
    "state": ("a state", theme.GREEN, ""),
}
# UNVERIFIED, of the paper's inference section: bytes in all of its 3B model at 1M tokens, how many times less than a
# Transformer with grouped heads; seconds of a prompt of 512K tokens before and after (the second "under 6").
PAPER_MEMORY, PAPER_SAVED = 12.4e9, 9.4
PAPER_SECONDS = {"grouped": 180.0, "YOCO, gated": 6.0}
LONG = 1 << 19
PEAK = "H100 SXM"


def layers(architecture="YOCO, gated", context=131072, size="3B"):
    """Which layer keeps what? A bar per layer, bytes on a logarithmic scale; layers that keep nothing have none."""
    import plotly.graph_objects as go

    model = prices.SIZES[size]
    kept = [prices.layer_kept(model, context, architecture, layer) for layer in range(model.layers)]
    traces = []
    for kind, (words, colour, shape) in KINDS.items():
        where = [layer for layer, (found, _) in enumerate(kept) if found == kind]
        traces.append(go.Bar(
            y=where, x=[kept[layer][1] for layer in where], orientation="h", name=words, width=0.7,
            marker=dict(color=colour, pattern=dict(shape=shape, solidity=0.3)), showlegend=bool(where),
            customdata=[costs.format_bytes(kept[layer][1]) for layer in where],
            hovertemplate="layer %{y}: %{customdata}<extra></extra>",
        ))  # fmt: skip
    total, readers = sum(size for _, size in kept), _readers(model, architecture)
    annotations = [theme.heading(f"<b>{WORDS[architecture]}</b>"),
                   theme.heading(f"in all <b>{costs.format_bytes(total)}</b>", side="right")]  # fmt: skip
    if readers:
        annotations.append(dict(
            text=f"layers {readers[0]} to {readers[-1]} keep nothing<br>and read layer {readers[0] - 1}’s",
            x=0.04, xref="x domain", xanchor="left", y=(readers[0] + readers[-1]) / 2, showarrow=False, align="left",
        ))  # fmt: skip
    ticks = [2.0**power for power in range(20, 41, 5)]
    return theme.figure(
        *traces, height=430, annotations=annotations, barmode="overlay", showlegend=True,
        legend=dict(y=0, yanchor="bottom", yref="container", traceorder="normal"), margin=dict(t=30, b=64, l=8, r=14),
        meta=dict(narrow={"annotations.0.font.size": theme.SMALL, "annotations.1.font.size": theme.SMALL}),
        xaxis=dict(type="log", range=[math.log10(2.0**19), math.log10(2.0**36)], tickvals=ticks,
                   ticktext=[costs.format_bytes(tick) for tick in ticks], side="bottom"),
        yaxis=dict(title=dict(text="layer"), range=[-0.7, model.layers - 0.3], showgrid=False),
    )  # fmt: skip


def _readers(model, architecture):
    """The layers that keep nothing and read another's cache."""
    first = model.layers // 2 + 1
    return range(first, model.layers) if architecture.startswith("YOCO") else range(0)


def layers_says(architecture="YOCO, gated", context=131072, size="3B"):
    """`layers` in a sentence."""
    model, parts = prices.SIZES[size], {}
    for layer in range(model.layers):
        kind, amount = prices.layer_kept(model, context, architecture, layer)
        count, total = parts.get(kind, (0, 0))
        parts[kind] = count + 1, total + amount
    told = [
        f"{count} layer{'s' * (count > 1)} with nothing of their own" if kind == "nothing"
        else f"{count} layer{'s' * (count > 1)} with {KINDS[kind][0]}, together {costs.format_bytes(total)}"
        for kind, (count, total) in parts.items()
    ]  # fmt: skip
    return f"{WORDS[architecture]}, {theme.tokens(context)} tokens: {'; '.join(told)}."


def _cells(tokens, depth, early):
    """0 not computed, 1 self-decoder, 2 keys and values, 3 cross-decoder: rows from the bottom layer up."""
    half = depth // 2
    rows = [[1] * tokens for _ in range(half)] + [[2] * tokens]
    return rows + [[3 if token == tokens - 1 or not early else 0 for token in range(tokens)] for _ in range(half)]


def early_exit(early=True, tokens=16, depth=8):
    """What must be computed of a prompt? A cell per token and layer; leaving early drops most of the upper half."""
    import plotly.graph_objects as go

    cells = _cells(tokens, depth, early)
    half, colours = depth // 2, [theme.GRID, theme.GREEN, theme.BLUE, theme.ORANGE]
    scale = [[edge / 4, colours[kind]] for kind in range(4) for edge in (kind, kind + 1)]
    words = ["not computed", "self-decoder", "its key and value", "cross-decoder"]
    heat = go.Heatmap(
        z=cells, zmin=-0.5, zmax=3.5, colorscale=scale, showscale=False, xgap=2, ygap=2,
        customdata=[[words[kind] for kind in row] for row in cells],
        hovertemplate="token %{x}, row %{y}: %{customdata}<extra></extra>",
    )  # fmt: skip
    dropped = sum(kind == 0 for row in cells for kind in row)
    marks = go.Scatter(
        x=[token for row in cells for token, kind in enumerate(row) if kind == 0],
        y=[number for number, row in enumerate(cells) for kind in row if kind == 0],
        mode="markers", marker=dict(symbol="x-thin", size=7, line=dict(width=1.5, color=theme.QUIET)), hoverinfo="skip",
    )  # fmt: skip
    names = [f"self {number + 1}" for number in range(half)] + ["K, V"] + [f"cross {n + 1}" for n in range(half)]
    title = f"<b>{dropped}</b> of {tokens * depth} cells of the layers are not computed" if early else (
        "everything is computed, as in training")  # fmt: skip
    return theme.figure(
        heat, marks, height=360, annotations=[theme.heading(title)], showlegend=False, margin=dict(t=30, l=8, r=8, b=8),
        xaxis=dict(title=dict(text="token of the prompt"), tickvals=[0, tokens - 1],
                   ticktext=["first", "last"], showgrid=False, ticks=""),
        yaxis=dict(tickvals=list(range(depth + 1)), ticktext=names, showgrid=False, ticks=""),
    )  # fmt: skip


def early_exit_says(early=True, tokens=16, depth=8):
    """`early_exit` in a sentence."""
    dropped = sum(kind == 0 for row in _cells(tokens, depth, early) for kind in row)
    if not early:
        return f"A prompt of {tokens} tokens through {depth} layers, everything computed, as training needs it."
    return (
        f"A prompt of {tokens} tokens through {depth} layers: the {depth // 2} layers of the self-decoder and the keys "
        f"and values are computed for every token, the cross-decoder for the last; {dropped} cells are left out."
    )


def _curves(amount):
    """(architecture, colour, dash, its amount at each of CONTEXTS)."""
    return [
        (name, colour, dash, [amount(context, name) for context in CONTEXTS])
        for name, (colour, dash) in LOOKS.items()
    ]  # fmt: skip


def _lines(curves, words):
    """Traces of curves over CONTEXTS; words: a function from an amount to its text."""
    import plotly.graph_objects as go

    return [
        go.Scatter(
            x=list(CONTEXTS), y=amounts, mode="lines", name=WORDS[name], line=dict(color=colour, dash=dash, width=3),
            customdata=[words(each) for each in amounts],
            hovertemplate="%{x:,} tokens: %{customdata}<extra></extra>",
        )
        for name, colour, dash, amounts in curves
    ]  # fmt: skip


def _over_contexts(traces, title, now, ticks, words, span):
    """A figure over CONTEXTS, both axes logarithmic, a line at the context `now`."""
    line = dict(type="line", x0=now, x1=now, yref="y domain", y0=0, y1=1,
                line=dict(color=theme.QUIET, width=1, dash="dash"))  # fmt: skip
    return theme.figure(
        *traces, height=430, shapes=[line], showlegend=True, margin=dict(t=8, l=8, r=14, b=8),
        legend=dict(y=1.02, yanchor="bottom", traceorder="normal"),
        xaxis=dict(type="log", title=dict(text="tokens"), tickvals=list(CONTEXTS[::2]),
                   ticktext=[theme.tokens(each) for each in CONTEXTS[::2]]),
        yaxis=dict(type="log", title=dict(text=title), tickvals=ticks, ticktext=[words(tick) for tick in ticks],
                   range=[math.log10(each) for each in span]),
    )  # fmt: skip


def _paper(points, words):
    """Diamonds for what the paper reports; visible or not, so that every state has the same traces."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=[x for x, _ in points], y=[y for _, y in points], mode="markers", name="the paper’s (UNVERIFIED)",
        marker=dict(symbol="diamond-open", size=14, color=theme.INK, line=dict(width=3)),
        customdata=[words(y) for _, y in points], hovertemplate="the paper: %{customdata}<extra></extra>",
    )  # fmt: skip


def memory(size="3B", context=1 << 20):
    """How much memory does serving one text take? Weights and caches over the context; diamonds: the paper's rows."""
    model = prices.SIZES[size]
    curves = _curves(lambda tokens, name: prices.memory(model, tokens, name))
    points = [(1 << 20, PAPER_MEMORY), (1 << 20, PAPER_SAVED * PAPER_MEMORY)] if size == "3B" else [(None, None)]
    traces = [*_lines(curves, costs.format_bytes), _paper(points, lambda y: costs.format_bytes(y or 0))]
    ticks = [2.0**power for power in (32, 34, 36, 38, 40, 42)]
    return _over_contexts(traces, "bytes, weights and caches", context, ticks, costs.format_bytes, (2.0**32, 2.0**42))


def memory_says(size="3B", context=1 << 20):
    """`memory` in a sentence."""
    model = prices.SIZES[size]
    amounts = {name: prices.memory(model, context, name) for name in LOOKS}
    told = ", ".join(f"{WORDS[name]} {costs.format_bytes(amount)}" for name, amount in amounts.items())
    ratio = amounts["grouped"] / amounts["YOCO, gated"]
    return (
        f"A model of {size} parameters at {theme.tokens(context)} tokens: {told}. With grouped heads a Transformer "
        f"takes {theme.significant(ratio, 2)} times as much as the gated YOCO."
    )


def format_seconds(value):
    """Seconds to read at a glance: 12 ms, 3.4 s, 6 min."""
    if value < 1:
        return f"{theme.significant(1e3 * value, 2)} ms"
    return f"{theme.significant(value, 2)} s" if value < 120 else f"{theme.significant(value / 60, 2)} min"


def prefill(size="3B", context=1 << 19):
    """How long does a prompt take? Least time by operations at a published peak; diamonds: the paper's measurements."""
    model, device = prices.SIZES[size], costs.HARDWARE[PEAK]
    curves = _curves(lambda tokens, name: prices.seconds(model, tokens, name, device))
    points = [(LONG, value) for value in PAPER_SECONDS.values()] if size == "3B" else [(None, None)]
    traces = [*_lines(curves, format_seconds), _paper(points, lambda y: format_seconds(y or 0))]
    ticks = [0.01, 0.1, 1, 10, 100, 1000, 10000]
    title = f"seconds at least, at the peak of an {PEAK}"
    return _over_contexts(traces, title, context, ticks, lambda tick: f"{tick:,g}", (0.01, 20000))


def prefill_says(size="3B", context=1 << 19):
    """`prefill` in a sentence."""
    model, device = prices.SIZES[size], costs.HARDWARE[PEAK]
    spent = {name: prices.seconds(model, context, name, device) for name in LOOKS}
    told = ", ".join(f"{WORDS[name]} {format_seconds(each)}" for name, each in spent.items())
    ratio = spent["grouped"] / spent["YOCO, gated"]
    return (
        f"A model of {size} parameters reads {theme.tokens(context)} tokens in at least: {told}; an estimate from the "
        f"published peak of an {PEAK}. Against grouped heads the gated YOCO does {theme.significant(ratio, 2)} times "
        "fewer operations."
    )
