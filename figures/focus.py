"""Figures of the chapter on focused chunks: who sees whom, what it costs, what was found behind a trained window."""

import functools
import math
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from effattn_core import costs
from effattn_core.focus import costs as priced
from effattn_core.focus import layout, scores_chunked, scores_dense
from effattn_core.recordings import measured
from figures import theme
from figures.measured import looks

CHUNKS, CHUNK, PROMPT, LOCAL = range(1, 5), 4, 2, 4  # of the drawing: chunks to choose from, tokens of each part
# Which row is looked at -> (its words, the kind of token, of which the last one of the last pass is meant).
ROWS = {
    "the last candidate": "candidate",
    "the last token of the last chunk": "chunk",
    "the newest local token": "local",
}
# Of the keys that a row reads: (name, its kinds in the layout, colour, mark in the row looked at, what one says of it).
KEYS = (
    ("a chunk's own tokens", ("chunk",), theme.SKY, "square", "of its chunk's tokens"),
    ("the end of the local text, injected", ("prompt",), theme.ORANGE, "x", "injected ones"),
    ("candidates", ("candidate", "read"), theme.VERMILLION, "circle", "of the candidates"),
    ("local tokens", ("local",), theme.GREEN, "diamond", "local tokens"),
)


def _pale(colour):
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.35)"


def _chosen(found, row):
    """The number of the row that is looked at, among all of the layout's tokens."""
    return max(place for place, kind in enumerate(found.kind) if kind == ROWS[row])


def seen(chunks=3, row="the last candidate"):
    """Who sees whom in one step? All passes' tokens as rows, the keys that they read as columns; one row in colour.

    chunks: 1 to 4, of 4 tokens each, with 2 injected tokens and a candidate; then 4 local tokens. row: one of ROWS.
    """
    import plotly.graph_objects as go

    found = layout(chunks, CHUNK, PROMPT, LOCAL)
    code = {kind: number for number, (_, kinds, *_) in enumerate(KEYS) for kind in kinds}
    readers = [place for place, kind in enumerate(found.kind) if kind != "read"]
    chosen = _chosen(found, row)
    z = [
        [code[kind] + (len(KEYS) if place == chosen else 0) if sees else None
         for kind, sees in zip(found.kind, found.seen[place].tolist(), strict=True)]
        for place in readers
    ]  # fmt: skip
    grid = go.Heatmap(z=z, zmin=-0.5, zmax=2 * len(KEYS) - 0.5, showscale=False, hoverinfo="skip", xgap=1, ygap=1,
                      colorscale=_steps([_pale(key[2]) for key in KEYS] + [key[2] for key in KEYS]))  # fmt: skip
    height = readers.index(chosen)
    traces = [grid, *(_marks(found, chosen, height, *key) for key in KEYS)]
    total, dense = scores_chunked(chunks, CHUNK, PROMPT, LOCAL), scores_dense(chunks * CHUNK + LOCAL)
    title = f"<b>{total}</b> scores; <b>{dense}</b> if every token saw all before it"
    rows = [len(readers) - LOCAL - 0.5, len(readers) - 0.5]
    frame = dict(type="rect", x0=-0.5, x1=len(found.kind) - 0.5, y0=height - 0.5, y1=height + 0.5,
                 line=dict(color=theme.INK, width=2))  # fmt: skip
    bands = _bands(found)
    lines = [dict(type="line", x0=edge - 0.5, x1=edge - 0.5, y0=-0.5, y1=rows[1], layer="below",
                  line=dict(color=theme.GRID, width=1)) for _, edge, _ in bands[1:]]  # fmt: skip
    return theme.figure(
        *traces, height=560, shapes=[frame, *lines], margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(title)], showlegend=True, legend=dict(y=-0.14, yanchor="top"),
        xaxis=dict(range=[-0.6, len(found.kind) - 0.4], showgrid=False, ticks="", **_positions(found, bands),
                   title=dict(text="position of the key in its pass")),
        yaxis=dict(range=[rows[1] + 0.1, -0.6], showgrid=False, ticks="", **_passes(bands, readers)),
    )  # fmt: skip


def _steps(colours):
    """A colour scale of equal steps, one per colour."""
    return [[(number + edge) / len(colours), colour] for number, colour in enumerate(colours) for edge in (0, 1)]


def _marks(found, chosen, height, name, kinds, colour, symbol, _):
    """Marks on the keys of these kinds that the chosen row reads: a name in the legend, even where there is none."""
    import plotly.graph_objects as go

    sees = found.seen[chosen].tolist()
    places = [place for place, kind in enumerate(found.kind) if kind in kinds and sees[place]]
    return go.Scatter(
        x=places or [None], y=[height] * max(1, len(places)), mode="markers", name=name, hoverinfo="skip",
        marker=dict(color=colour, symbol=symbol, size=10, line=dict(color="#000000", width=1)),
    )  # fmt: skip


def _bands(found):
    """(name, first column, last column) of every pass."""
    bands = []
    for name in dict.fromkeys(found.group):
        places = [place for place, group in enumerate(found.group) if group == name]
        bands.append(("local" if name == "local" else f"chunk {name + 1}", places[0], places[-1]))
    return bands


def _positions(found, bands):
    ends = [edge for _, first, last in bands for edge in (first, last)]
    return dict(tickvals=ends, ticktext=[str(int(found.position[edge])) for edge in ends])


def _passes(bands, readers):
    """Ticks at the middle of each pass's rows."""
    middles = [
        [readers.index(place) for place in range(first, last + 1) if place in readers] for _, first, last in bands
    ]
    return dict(tickvals=[sum(rows) / len(rows) for rows in middles], ticktext=[name for name, *_ in bands])


def seen_says(chunks=3, row="the last candidate"):
    """`seen` in a sentence."""
    found = layout(chunks, CHUNK, PROMPT, LOCAL)
    chosen = _chosen(found, row)
    sees = [kind for kind, each in zip(found.kind, found.seen[chosen].tolist(), strict=True) if each]
    parts = [f"{count} {said}" for _, kinds, *_, said in KEYS if (count := sum(kind in kinds for kind in sees))]
    each = "1 chunk" if chunks == 1 else f"{chunks} chunks"
    return (
        f"{each} of {CHUNK} tokens and {LOCAL} local ones, {scores_chunked(chunks, CHUNK, PROMPT, LOCAL)} scores, "
        f"{scores_dense(chunks * CHUNK + LOCAL)} if dense: {row}, at position {int(found.position[chosen])}, sees "
        f"{', '.join(parts)}."
    )


MODEL, SIZES = priced.LLAMA2_7B, (512, 1024, 2048)
CONTEXTS = tuple(1024 * each for each in (4, 8, 16, 32, 64, 128, 256, 400))
LINES = ("dense", "a window", "in chunks")


class Counted(NamedTuple):
    """What is counted, in `unit`: functions of (model, context), and of the sizes of chunks too for the last."""

    unit: str
    dense: Callable
    windowed: Callable
    chunked: Callable

    def words(self, value):
        return (costs.format_flops if self.unit == "FLOP" else costs.format_bytes)(value)


def _windowed_flops(model, context, window=priced.WINDOW):
    """Operations of a prompt whose tokens see a window: the dense prompt's, less the scores that nobody computes."""
    seen = min(window, context)
    pairs = seen * (seen + 1) // 2 + seen * (context - seen)
    matrices = costs.prefill_flops(model, context) - costs.attention_flops(model, context)
    return matrices + 4 * model.layers * model.heads * model.head_dim * pairs


def _through_a_window(price):
    """A price of a dense model whose cache never holds more than the trained window."""
    return lambda model, context: price(model, min(priced.WINDOW, context))


COUNTED = {
    "operations of the prompt": Counted("FLOP", costs.prefill_flops, _windowed_flops, priced.prefill_flops),
    "its longest chain": Counted("FLOP", costs.prefill_flops, _windowed_flops, priced.chain_flops),
    "keys and values kept": Counted(
        "B", costs.cache_bytes, _through_a_window(costs.cache_bytes), priced.kept_bytes
    ),
    "read per written token": Counted(
        "B", costs.decode_bytes, _through_a_window(costs.decode_bytes), priced.decode_bytes
    ),
    "operations per written token": Counted(
        "FLOP", costs.decode_flops, _through_a_window(costs.decode_flops), priced.decode_flops
    ),
}  # fmt: skip


@functools.cache
def _curves(what, chunk):
    """Per line of LINES its values over CONTEXTS; chunks beyond the trained window only."""
    counted, sizes = COUNTED[what], dict(chunk=chunk, prompt=priced.PROMPT, local=priced.LOCAL)
    return (
        [counted.dense(MODEL, each) for each in CONTEXTS],
        [counted.windowed(MODEL, each) for each in CONTEXTS],
        [counted.chunked(MODEL, each, **sizes) for each in CONTEXTS],
    )


def costs_of(what="operations of the prompt", chunk=2048):
    """What does a context of 4K to 400K tokens cost LLaMA 2 7B: dense, through a window, in chunks of `chunk` tokens?

    what: one of COUNTED. Logarithmic both ways.
    """
    import plotly.graph_objects as go

    counted, traces = COUNTED[what], []
    looks = zip(LINES, (theme.INK, theme.GREEN, theme.VERMILLION), ("dash", "dot", "solid"), _curves(what, chunk),
                ("square", "diamond", "circle"), strict=True)  # fmt: skip
    for name, colour, dash, values, symbol in looks:
        traces.append(go.Scatter(
            x=CONTEXTS, y=values, mode="lines+markers", name=name, line=dict(color=colour, dash=dash, width=3),
            marker=dict(symbol=symbol, size=9), text=[counted.words(value) for value in values],
            hovertemplate="%{x:,} tokens: %{text}<extra>" + name + "</extra>",
        ))  # fmt: skip
    dense, _, chunked = (values[-1] for values in _curves(what, chunk))
    title = f"400K tokens: <b>{counted.words(chunked)}</b>, dense {counted.words(dense)}"
    ticks = _ticks([value for values in _curves(what, chunk) for value in values], 10 if counted.unit == "FLOP" else 4)
    return theme.figure(
        *traces, height=400, showlegend=True, legend=dict(y=-0.2, yanchor="top"), annotations=[theme.heading(title)],
        margin=dict(l=8, r=14, t=30, b=8),
        xaxis=dict(type="log", title=dict(text="tokens of context"), tickvals=[*CONTEXTS[:6:2], CONTEXTS[-1]],
                   ticktext=[theme.tokens(each) for each in [*CONTEXTS[:6:2], CONTEXTS[-1]]]),
        yaxis=dict(type="log", title=dict(text=what), tickvals=ticks, ticktext=list(map(counted.words, ticks))),
    )  # fmt: skip


def _ticks(values, base):
    """Powers of `base` around the values."""
    found = [base ** math.floor(math.log(min(values), base))]
    while found[-1] < max(values):
        found.append(found[-1] * base)
    return found


def costs_says(what="operations of the prompt", chunk=2048):
    """`costs_of` in a sentence: what 400K tokens cost in each of the three ways."""
    counted = COUNTED[what]
    ends = ", ".join(
        f"{name} {counted.words(values[-1])}" for name, values in zip(LINES, _curves(what, chunk), strict=True)
    )
    return f"{what[:1].upper()}{what[1:]} at 400K tokens, chunks of {chunk:,}: {ends}."


def _grouped(rows, key):
    """name -> [(chunks, mean, least, most)] by rising chunks, names in the order in which they come."""
    names = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        here = [row for row in rows if row["name"] == name]
        by_chunks = {
            chunks: [row[key] for row in here if row["chunks"] == chunks] for chunks in {row["chunks"] for row in here}
        }
        names[name] = [(chunks, fmean(each), min(each), max(each)) for chunks, each in sorted(by_chunks.items())]
    if not names:
        raise ValueError("found needs rows with a name and a number of chunks; it was given none.")
    return names


def found(tables, task):
    """What was found of far chunks? Means over seeds or passages by the number of chunks, bars from least to most.

    tables: task -> (rows, key, title of the upward axis). rows: dicts with name, chunks and `key`, a share or "gain".
    """
    import plotly.graph_objects as go

    rows, key, title = tables[task]
    names, traces = _grouped(rows, key), []
    for name, colour, dash, symbol in looks(list(names)):
        chunks, mean, least, most = zip(*names[name], strict=True)
        spread = dict(type="data", symmetric=False, thickness=1.5, width=5, color=colour,
                      array=[top - middle for top, middle in zip(most, mean, strict=True)],
                      arrayminus=[middle - low for middle, low in zip(mean, least, strict=True)])  # fmt: skip
        traces.append(go.Scatter(
            x=chunks, y=mean, error_y=spread, mode="lines+markers", name=name,
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=9),
            hovertemplate="%{x} chunks: %{y:.3g}<extra>" + name + "</extra>",
        ))  # fmt: skip
    counts = sorted({row["chunks"] for row in rows})
    share = {} if key == "gain" else dict(tickformat=".0%", range=[-0.03, 1.03])
    return theme.figure(
        *traces, height=420, showlegend=True, legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(type="log", tickvals=counts, ticktext=list(map(str, counts)), title=dict(text="chunks")),
        yaxis=dict(title=dict(text=title), **share),
    )  # fmt: skip


def found_says(tables, task):
    """`found` in a sentence: what each name ends with."""
    rows, key, title = tables[task]
    ends = "; ".join(
        f"{name} {theme.significant(each[-1][1], 2)} at {each[-1][0]}" for name, each in _grouped(rows, key).items()
    )
    return f"{title[:1].upper()}{title[1:]}, by chunks: {ends}."


SMALL, REAL = "focus/recall-cpu", "focus/smollm2-cpu"


def number_rows():
    """The share of a hidden number's digits that were likeliest, by name, chunks and depth: a row for each."""
    places = dict.fromkeys((row["name"], row["chunks"], row["depth"]) for row in measured(REAL, what="numbers"))
    rows = []
    for name, chunks, depth in places:
        here = measured(REAL, what="numbers", name=name, chunks=chunks, depth=depth)
        right = sum(row["right"] * row["tokens"] for row in here) / sum(row["tokens"] for row in here)
        rows.append({"name": name, "chunks": chunks, "depth": depth, "right": right})
    return rows


def gain_rows(what):
    """What each way of reading takes off the loss of the local text alone, on the same tokens: a row per passage."""
    alone = {(row["passage"], row["chunks"]): row["loss"] for row in measured(REAL, what=what, name="local only")}
    return [
        {**row, "gain": alone[row["passage"], row["chunks"]] - row["loss"]}
        for row in measured(REAL, what=what)
        if row["name"] != "local only"
    ]


def recorded():
    """task -> what `found` draws of it."""
    title = "nats per token below the local text alone"
    return {
        "digits of a hidden number": (number_rows(), "right", "digits found"),
        "a span of the memory": (gain_rows("reconstruction"), "gain", title),
        "next tokens": (gain_rows("perplexity"), "gain", title),
    }
