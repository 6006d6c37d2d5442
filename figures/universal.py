"""Figures of the chapter on loops: what each loop keeps, what loops cost, what each still changes, and what that buys.

The last two draw the recorded run; `figures.measured` draws curves of training, `figures.bill` the bill.
"""

import functools
import math
from statistics import fmean

from effattn_core import costs
from effattn_core.recordings import measured
from effattn_core.universal import costs as costs_universal
from figures import theme

CLEAR = "rgba(0,0,0,0)"
MODELS = ("YOCO-U", "looped Transformer")
TEXT, WINDOW, LAYERS, LOOPS = 16, 4, 4, (1, 2, 3, 4)  # tokens, tokens of a window, layers, loops of the drawing
ROWS = LAYERS * LOOPS[-1]
KEPT = {"nothing": 0, "window": 1, "cache": 2}


def _layers_run(model, loops):
    """(name, what is kept) of every layer that is run for a token, in order, and of the shared cache."""
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; it is {model!r}.")
    if model == "looped Transformer":
        return [(name, "cache") for name in _looped(loops, LAYERS)]
    below = range(1, LAYERS // 2 + 1)
    looped = [(name, "window") for name in _looped(loops, LAYERS // 2)]
    return [*looped, ("shared cache", "cache"), *((f"cross layer {LAYERS // 2 + layer}", "nothing") for layer in below)]


def _looped(loops, layers):
    return [f"loop {loop}, layer {layer}" for loop in range(1, loops + 1) for layer in range(1, layers + 1)]


def _kept_tokens(what):
    return {"nothing": 0, "window": WINDOW, "cache": TEXT}[what]


def _cells(what):
    """A row of the drawing: each token kept or not; nothing at all for a layer that keeps nothing."""
    empty = None if what == "nothing" else 0
    return [KEPT[what] if token >= TEXT - _kept_tokens(what) else empty for token in range(TEXT)]


def unrolled(loops=3, model="YOCO-U"):
    """Which layers run for a token, in order, and which tokens' keys and values does each keep? Sixteen tokens.

    loops: 1 to 4; model: "YOCO-U", two layers in loops with windows of 4 and two above them, or "looped Transformer".
    """
    import plotly.graph_objects as go

    rows = _layers_run(model, loops)
    total = sum(_kept_tokens(what) for _, what in rows)
    grid = go.Heatmap(
        z=[_cells(what) for _, what in rows], x=list(range(1, TEXT + 1)), y=list(range(len(rows))), zmin=0, zmax=2,
        xgap=2, ygap=2, showscale=False,
        colorscale=[[0, theme.GRID], [0.33, theme.GRID], [0.34, theme.SKY], [0.66, theme.SKY], [0.67, theme.BLUE],
                    [1, theme.BLUE]], hoverinfo="skip",
    )  # fmt: skip
    reads = [number for number, (_, what) in enumerate(rows) if what == "nothing"]
    annotations = [
        theme.heading(f"<b>{total}</b> keys and values kept"),
        *(dict(text="reads the shared cache, keeps nothing", x=TEXT / 2 + 0.5, y=row, font=dict(size=theme.SMALL))
          for row in reads),
    ]  # fmt: skip
    ticks = dict(tickvals=list(range(len(rows))), ticktext=[name for name, _ in rows], ticks="", showgrid=False)
    return theme.figure(
        grid, height=470, annotations=annotations, margin=dict(l=8, r=8, t=34, b=8), showlegend=False,
        xaxis=dict(title=dict(text="token of the text"), tickvals=[1, 4, 8, 12, 16], showgrid=False, ticks="",
                   range=[0.4, TEXT + 0.6]),
        yaxis=dict(range=[-0.6, ROWS - 0.4], **ticks),
    )  # fmt: skip


def _times(loops):
    return f"{loops} loop{'s' * (loops > 1)}"


def unrolled_says(loops=3, model="YOCO-U"):
    """`unrolled` in sentences."""
    rows = _layers_run(model, loops)
    total, caches = sum(_kept_tokens(what) for _, what in rows), sum(what == "cache" for _, what in rows)
    layers = sum(name != "shared cache" for name, _ in rows)
    windows = sum(what == "window" for _, what in rows)
    kept = f"{caches} cache{'s' * (caches > 1)} of all {TEXT} tokens"
    kept += f" and {windows} windows of {WINDOW}" if windows else ""
    return f"{model} with {_times(loops)} runs {layers} layers per token and keeps {kept}: {total} keys and values."


PRICED = tuple(range(1, 9))
CONTEXTS = (8192, 131072, 1048576)


@functools.cache
def _prices(context):
    """{model: (operations per token, bytes kept)}, each a list over PRICED, at the sizes of Llama 3 8B."""
    found = {}
    for name in MODELS:
        sizes = [costs_universal.llama_sized(loops, context, shares=name == "YOCO-U") for loops in PRICED]
        flops = [costs_universal.decode_flops(each, context) for each in sizes]
        found[name] = flops, [costs_universal.kept(each).total for each in sizes]
    return found


def prices(loops=4, context=131072):
    """What do loops cost? Operations to write a token, and bytes kept, over loops, of both models at Llama 3 8B's size.

    loops: 1 to 8, marked on the lines; context: tokens before the one that is written.
    """
    import plotly.graph_objects as go

    traces, texts = [], ["<b>Operations per token</b>", "<b>Bytes kept</b>"]
    looks = zip(MODELS, (theme.BLUE, theme.VERMILLION), ("solid", "dash"), ("circle", "square"), strict=True)
    scales = (1e9, 2.0**30)
    for name, colour, dash, symbol in looks:
        for panel, values in enumerate(_prices(context)[name]):
            shared = dict(name=name, legendgroup=name, xaxis=("x", "x2")[panel], yaxis=("y", "y2")[panel])
            says = costs.format_bytes if panel else costs.format_flops
            heights = [value / scales[panel] for value in values]
            traces.append(go.Scatter(
                x=PRICED, y=heights, mode="lines", line=dict(color=colour, dash=dash, width=3), hoverinfo="skip",
                showlegend=panel == 0, **shared,
            ))  # fmt: skip
            traces.append(go.Scatter(
                x=[loops], y=[heights[loops - 1]], mode="markers", cliponaxis=False,
                marker=dict(color=colour, symbol=symbol, size=13),
                showlegend=False, hovertemplate=f"{name}: {says(values[loops - 1])}<extra></extra>", **shared,
            ))  # fmt: skip
    annotations = [theme.heading(text, "" if panel == 0 else "2") for panel, text in enumerate(texts)]
    for panel, says in enumerate((costs.format_flops, costs.format_bytes)):
        both = [says(_prices(context)[name][panel][loops - 1]) for name in MODELS]
        annotations.append(dict(
            text=f"YOCO-U <b>{both[0]}</b>, other <b>{both[1]}</b>", x=0, xref=f"x{('', 2)[panel]} domain", y=1,
            yref=f"y{('', 2)[panel]} domain", xanchor="left", yanchor="top", yshift=-2, font=dict(size=theme.SMALL),
        ))  # fmt: skip
    across = dict(tickvals=list(PRICED), title=dict(text="loops"), range=[0.6, 8.4])
    narrow = {"height": 640, "xaxis.domain": [0, 1], "yaxis.domain": [0.58, 0.92], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.36]}  # fmt: skip
    return theme.figure(
        *traces, height=370, annotations=annotations, meta=dict(narrow=narrow), showlegend=True,
        margin=dict(l=8, r=8, t=8, b=8), legend=dict(orientation="h", x=0, y=1, yref="container", yanchor="top"),
        xaxis=dict(domain=[0, 0.45], **across), xaxis2=dict(domain=[0.57, 1], anchor="y2", **across),
        yaxis=dict(domain=[0, 0.82], title=dict(text="GFLOP"), range=[0, 1.2 * max(
            max(_prices(context)[name][0]) for name in MODELS) / scales[0]]),
        yaxis2=dict(domain=[0, 0.82], anchor="x2", title=dict(text="GiB"), range=[0, 1.2 * max(
            max(_prices(context)[name][1]) for name in MODELS) / scales[1]]),
    )  # fmt: skip


def prices_says(loops=4, context=131072):
    """`prices` in sentences."""
    found = _prices(context)
    parts = [
        f"{name} {costs.format_flops(flops[loops - 1])} per token and {costs.format_bytes(kept[loops - 1])} kept"
        for name, (flops, kept) in found.items()
    ]
    return f"After {theme.tokens(context)} tokens, with {_times(loops)}: {'; '.join(parts)}."


RECORDED = "universal/training-cpu"


def _rows(what):
    return measured(RECORDED, what=what)


# The YOCO-Us of the recorded run, by how they were trained: name and loops in its rows.
TRAINED = {
    "1 loop": ("YOCO-U", 1),
    **{f"{loops} loops": ("YOCO-U", loops) for loops in LOOPS[1:]},
    "4 loops, embedding again": ("YOCO-U, embedding again", 4),
    "drawn loops": ("YOCO-U, random loops", 4),
}


def shown(name):
    """A model's name on the page; the recording says "random" of loops whose number is drawn."""
    return name.replace("random", "drawn")


def _of(trained):
    """(loops trained with, mean change by loop, mean loss by loops asked) of a choice of TRAINED."""
    if trained not in TRAINED:
        raise ValueError(f"trained must be one of {'; '.join(TRAINED)}; it is {trained!r}.")
    name, loops = TRAINED[trained]
    changes = [row["changes"] for row in _rows("changes") if (row["name"], row["loops"]) == (name, loops)]
    losses = {}
    for row in _rows("held out"):
        if (row["name"], row["loops"]) == (name, loops):
            losses.setdefault(row["asked"], []).append(row["loss"])
    return loops, [fmean(each) for each in zip(*changes, strict=True)], losses


def changes(trained="4 loops"):
    """What does each loop still change, and does it help? Change of the stream by loop, and loss if that is the last.

    trained: how the model was trained, one of TRAINED; loops past those it was trained with are hollow.
    """
    import plotly.graph_objects as go

    loops, change, losses = _of(trained)
    numbers = list(range(1, len(change) + 1))
    colours = [theme.BLUE if number <= loops else CLEAR for number in numbers]
    asked = sorted(losses)
    mean = [fmean(losses[each]) for each in asked]
    spread = dict(
        type="data", symmetric=False, thickness=1.5, width=5, color=theme.INK,
        array=[max(losses[each]) - middle for each, middle in zip(asked, mean, strict=True)],
        arrayminus=[middle - min(losses[each]) for each, middle in zip(asked, mean, strict=True)],
    )  # fmt: skip
    traces = [
        go.Bar(x=numbers, y=change, marker=dict(color=colours, line=dict(color=theme.INK, width=1.5)),
               hovertemplate="loop %{x} changes %{y:.0%}<extra></extra>"),
        go.Scatter(x=asked, y=mean, error_y=spread, mode="lines+markers", line=dict(color=theme.VERMILLION, width=3),
                   marker=dict(size=10), xaxis="x2", yaxis="y2",
                   hovertemplate="%{x} loops: %{y:.3f}<extra></extra>"),
        go.Scatter(x=[loops], y=[fmean(losses[loops])], mode="markers", xaxis="x2", yaxis="y2", hoverinfo="skip",
                   marker=dict(symbol="circle-open", size=18, color=theme.INK, line=dict(width=3))),
    ]  # fmt: skip
    annotations = [
        theme.heading("<b>Change of the stream</b> by each loop"),
        theme.heading("<b>Held-out loss</b>, nats per letter", "2"),
    ]
    across = dict(tickvals=numbers, title=dict(text="loops"), range=[0.4, len(change) + 0.6])
    narrow = {"height": 640, "xaxis.domain": [0, 1], "yaxis.domain": [0.6, 0.94], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.37]}  # fmt: skip
    low, high = _loss_range()
    return theme.figure(
        *traces, height=370, annotations=annotations, meta=dict(narrow=narrow), showlegend=False,
        margin=dict(l=8, r=8, t=34, b=8),
        xaxis=dict(domain=[0, 0.45], **across), xaxis2=dict(domain=[0.57, 1], anchor="y2", **across),
        yaxis=dict(type="log", range=_change_range(), tickvals=[0.1, 0.3, 1, 3, 10, 30, 100, 300],
                   ticktext=["0.1", "0.3", "1", "3", "10", "30", "100", "300"]),
        yaxis2=dict(anchor="x2", range=[low, high]),
    )  # fmt: skip


@functools.cache
def _loss_range():
    losses = [row["loss"] for row in _rows("held out")]
    return min(losses) - 0.05, min(max(losses), 3.6) + 0.05


@functools.cache
def _change_range():
    found = [each for row in _rows("changes") for each in row["changes"]]
    return [math.log10(0.8 * min(found)), math.log10(1.25 * max(found))]


def changes_says(trained="4 loops"):
    """`changes` in sentences."""
    loops, change, losses = _of(trained)
    bars = ", ".join(theme.significant(each, 2) for each in change)
    found = ", ".join(f"{fmean(losses[each]):.2f} after {each}" for each in sorted(losses))
    return f"Trained with {trained}: each loop in turn changes the stream by {bars} of itself; loss {found}."


def against_compute():
    """What do loops buy? Held-out loss over the operations of a trained token; points of a line have 1 to 4 loops."""
    import plotly.graph_objects as go

    groups = {}
    for row in _rows("held out"):
        if row["asked"] == row["loops"]:
            groups.setdefault(row["name"], {}).setdefault(row["training_flops"], []).append(row)
    traces = []
    looks = zip(groups, theme.CLASSES.values(), ("circle", "square", "diamond", "triangle-up", "star"), strict=False)
    for name, colour, symbol in looks:
        places = sorted(groups[name])
        each = [[row["loss"] for row in groups[name][place]] for place in places]
        mean = [fmean(losses) for losses in each]
        spread = dict(
            type="data", symmetric=False, thickness=1.5, width=4, color=theme.INK,
            array=[max(losses) - middle for losses, middle in zip(each, mean, strict=True)],
            arrayminus=[middle - min(losses) for losses, middle in zip(each, mean, strict=True)],
        )  # fmt: skip
        traces.append(go.Scatter(
            x=[place / 1e6 for place in places], y=mean, error_y=spread, name=shown(name),
            mode="lines+markers" if len(places) > 1 else "markers", line=dict(color=colour, width=3),
            marker=dict(symbol=symbol, size=11),
            hovertemplate="%{x:.2f} MFLOP: %{y:.3f}<extra>" + shown(name) + "</extra>",
        ))  # fmt: skip
    return theme.figure(
        *traces, height=400, showlegend=True, xaxis=dict(title=dict(text="MFLOP per trained letter")),
        yaxis=dict(title=dict(text="held-out loss, nats per letter")),
    )  # fmt: skip


def against_compute_says():
    """`against_compute` in sentences."""
    groups = {}
    for row in _rows("held out"):
        if row["asked"] == row["loops"]:
            groups.setdefault((row["name"], row["loops"]), []).append(row["loss"])
    told = "; ".join(
        f"{shown(name)} with {_times(loops)} {fmean(losses):.3f}" for (name, loops), losses in groups.items()
    )
    return f"Held-out loss, means over seeds: {told}."
