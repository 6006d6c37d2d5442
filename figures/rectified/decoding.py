"""Figures of the chapter on rectified sparse attention, one idea each; a builder and, in words, its sentence.

The box around a block's keys, the bytes of a token, the blocks that a real text reads, the drift of a cache.
"""

import functools
import math

import torch

from effattn_core import costs
from effattn_core.recordings import measured
from effattn_core.rectified import block_bounds, bound_scores, claims
from effattn_core.rectified import costs as costs_rectified
from figures import theme

TINT = "rgba(0,114,178,0.45)"  # letters stay readable on it, on a light page and on a dark one
RUN = "rectified/training-cpu"
SIZES, ANGLES = (1, 2, 4, 8, 16), tuple(range(0, 360, 15))


@functools.cache
def _keys():
    """Sixteen keys in the plane, as a text might leave them: neighbours are alike, the whole block is not."""
    generator = torch.Generator().manual_seed(151)
    steps = torch.randn(16, 2, dtype=torch.float64, generator=generator)
    key, keys = torch.zeros(2, dtype=torch.float64), []
    for step in steps:
        key = 0.6 * key + 0.8 * step
        keys.append(key)
    return torch.stack(keys) + torch.tensor([0.5, 0.35], dtype=torch.float64)


def _room(axis):
    """The range of an axis that holds all sixteen keys and the query, whichever way it points."""
    keys = _keys()[:, axis]
    return [min(-1.1, keys.min().item() - 0.3), max(1.1, keys.max().item() + 0.3)]


def _boxed(size, angle):
    """(keys, lowest, highest, query, bound, best score) of the first `size` keys and a query of length one."""
    keys, radians = _keys()[:size], math.radians(angle)
    query = torch.tensor([math.cos(radians), math.sin(radians)], dtype=torch.float64)
    lowest, highest = block_bounds(keys[None, None], size)
    bound = bound_scores(query[None, None, None], lowest, highest, scale=1.0).item()
    return keys, lowest[0, 0, 0], highest[0, 0, 0], query, bound, (keys @ query).max().item()


def box(size=8, angle=60):
    """How can two vectors stand for a block? Its keys in a box; the corner that the query points to bounds them all.

    size: keys of the block, up to 16; angle: of the query, in degrees.
    """
    import plotly.graph_objects as go

    keys, low, high, query, bound, best = _boxed(size, angle)
    winner, corner = keys[(keys @ query).argmax()].tolist(), torch.where(query > 0, high, low).tolist()
    low, high = low.tolist(), high.tolist()
    traces = [
        go.Scatter(x=[low[0], high[0], high[0], low[0], low[0]], y=[low[1], low[1], high[1], high[1], low[1]],
                   mode="lines", line=dict(color=theme.QUIET, width=2, dash="dash"), hoverinfo="skip", name="bounds"),
        go.Scatter(x=keys[:, 0].tolist(), y=keys[:, 1].tolist(), mode="markers", name="keys of the block",
                   marker=dict(color=theme.BLUE, size=9), hoverinfo="skip"),
        go.Scatter(x=[0, query[0].item()], y=[0, query[1].item()], mode="lines+markers", name="query",
                   line=dict(color=theme.INK, width=3), hoverinfo="skip",
                   marker=dict(symbol="arrow", angleref="previous", size=[0, 16], color=theme.INK)),
        go.Scatter(x=winner[:1], y=winner[1:], mode="markers", name="best key", hoverinfo="skip",
                   marker=dict(symbol="circle-open", size=18, color=theme.BLUE, line=dict(width=3))),
        go.Scatter(x=corner[:1], y=corner[1:], mode="markers", name="corner that bounds",
                   marker=dict(symbol="star", size=17, color=theme.VERMILLION), hoverinfo="skip"),
    ]  # fmt: skip
    bars = dict(orientation="h", xaxis="x2", yaxis="y2", hoverinfo="skip", showlegend=False, width=0.5)
    traces.append(go.Bar(x=[best, bound], y=[0, 1], marker=dict(color=[theme.BLUE, theme.VERMILLION]), **bars))
    notes = [
        theme.heading(f"<b>Block of {size} key{'s' * (size > 1)}</b>"),
        theme.heading("<b>Score</b>: query · key", "2"),
        dict(text=f"bound {bound:.2f}", xref="x2", x=0, y=1.27, yref="y2", xanchor="left", yanchor="bottom", xshift=5),
        dict(
            text=f"best key {best:.2f}", xref="x2", x=0, y=0.27, yref="y2", xanchor="left", yanchor="bottom", xshift=5
        ),
    ]
    for note in notes[2:]:
        note.update(showarrow=False, font=dict(size=theme.NORMAL))
    narrow = {"height": 620, "xaxis.domain": [0, 1], "yaxis.domain": [0.36, 0.95], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0.08, 0.27]}  # fmt: skip
    return theme.figure(
        *traces, height=420, annotations=notes, meta=dict(narrow=narrow), showlegend=True,
        legend=dict(y=0, yanchor="bottom", yref="container", traceorder="normal"),
        margin=dict(l=8, r=8, t=30, b=60),
        xaxis=dict(domain=[0, 0.58], range=_room(0), constrain="domain", showticklabels=False, ticks="",
                   zeroline=True, zerolinecolor=theme.GRID),
        yaxis=dict(domain=[0, 0.95], range=_room(1), scaleanchor="x", constrain="domain", showticklabels=False,
                   ticks="", zeroline=True, zerolinecolor=theme.GRID),
        xaxis2=dict(domain=[0.66, 1], anchor="y2", range=[-1.6, 4.2], zeroline=True, zerolinecolor=theme.INK),
        yaxis2=dict(domain=[0.3, 0.95], anchor="x2", range=[-0.5, 1.8], showticklabels=False, showgrid=False),
    )  # fmt: skip


def box_says(size=8, angle=60):
    """`box` in a sentence."""
    *_, bound, best = _boxed(size, angle)
    kept = (
        "the bound is the score itself" if size == 1 else f"the bound is {bound:.2f}, which is {bound - best:.2f} more"
    )
    return f"With {size} keys in a block and the query at {angle} degrees the best key scores {best:.2f}; {kept}."


BLOCK_SIZES, ACTIVES, PERIODS = (4, 8, 16, 32, 64), (0.02, 0.05, 0.1, 0.2, 0.3, 0.5), (8, 16, 32, 64, 128, 0)
PARTS = (
    ("two bounds per block, 1/ℓ", "descriptors", theme.ORANGE, "/"),
    ("blocks read, p", "blocks", theme.BLUE, ""),
    ("rectification, 1/f", "rectification", theme.VERMILLION, "x"),
)


def period_words(period):
    """A rectification period in words: "every 32 tokens", "every token", "never"."""
    return {0: "never", 1: "every token"}.get(period, f"every {period} tokens")


def share(block_size=16, active=0.1, period=32, context=131072):
    """What does a token read of the cache? The three parts as one bar, over that of dense decoding.

    Shares are `effattn_core.rectified.costs.share`; bytes are those of Llama 3 8B's cache at `context` tokens.
    """
    import plotly.graph_objects as go

    cost, cache = costs_rectified.share(block_size, active, period), costs.cache_bytes(costs.LLAMA_8B, context)
    traces = [go.Bar(x=[1], y=[1], orientation="h", width=0.5, name="dense: everything", hoverinfo="skip",
                     marker=dict(color=theme.QUIET))]  # fmt: skip
    for name, part, colour, pattern in PARTS:
        marker = dict(color=colour, pattern=dict(shape=pattern, solidity=0.4))
        traces.append(go.Bar(x=[getattr(cost, part)], y=[0], orientation="h", width=0.5, name=name, marker=marker,
                             hovertemplate=f"{name}: %{{x:.3f}}<extra></extra>"))  # fmt: skip
    read = f"<b>{costs.format_bytes(cost.total * cache)}</b>, {theme.significant(1 / cost.total)} times less"
    if cost.total >= 1:
        read = f"<b>{costs.format_bytes(cost.total * cache)}</b>: more than dense reads"
    notes = [
        theme.heading(f"Dense: <b>{costs.format_bytes(cache)}</b> per token, of {theme.tokens(context)} tokens", row=1),
        theme.heading(f"ReSA: {read}", row=0),
    ]
    return theme.figure(
        *traces, height=300, barmode="stack", annotations=notes, showlegend=True,
        legend=dict(y=0, yanchor="bottom", yref="container", traceorder="normal"), margin=dict(l=12, r=12, t=4, b=74),
        xaxis=dict(range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%",
                   title=dict(text="share of the cache's bytes, per token")),
        yaxis=dict(range=[-0.5, 1.8], showticklabels=False, showgrid=False),
    )  # fmt: skip


def share_says(block_size=16, active=0.1, period=32, context=131072):
    """`share` in a sentence."""
    cost = costs_rectified.share(block_size, active, period)
    return (
        f"Blocks of {block_size}, {active:.0%} of them read, rectified {period_words(period)}: bounds "
        f"{cost.descriptors:.1%}, blocks {cost.blocks:.1%}, rectification {cost.rectification:.1%} of the cache; in "
        f"all {cost.total:.1%}, {theme.significant(1 / cost.total)} times fewer bytes than dense decoding."
    )


COLUMNS = 32  # letters of a row of the text


@functools.cache
def _reads(active):
    """The recorded reads of one text, by layer: (text, first position, block size, rows)."""
    rows = sorted(measured(RUN, what="reads", active=active), key=lambda row: row["layer"])
    return rows[0]["text"], rows[0]["first"], rows[0]["block_size"], rows


@functools.cache
def _read_at(active, layer, key_head):
    """(sets of blocks, per cent of attention's mass caught) at each step, of one list."""
    row = _reads(active)[3][layer]
    words = [int(word, 16) for word in row["blocks"][key_head].split()]
    blocks = tuple(frozenset(block for block in range(word.bit_length()) if word >> block & 1) for word in words)
    return blocks, tuple(int(share) for share in row["caught"][key_head].split())


def text_lengths():
    """(letters of the recorded text, those of them that were decoded sparsely)."""
    text, first, *_ = _reads(_actives()[0])
    return len(text), len(text) - first


def read_steps(every=32):
    """The steps that the page offers: tokens decoded so far, to the end of the text."""
    blocks, _ = _read_at(_actives()[0], 0, 0)
    return list(range(every, len(blocks) + 1, every))


@functools.cache
def _actives():
    return tuple(sorted({row["active"] for row in measured(RUN, what="reads")}))


def caught(step, layer, key_head, active):
    """Per cent of attention's mass that the list holds at a step, and its mean over the text."""
    _, shares = _read_at(active, layer, key_head)
    return shares[step - 1], sum(shares) / len(shares)


def reads(step=64, layer=1, key_head=1, active=0.1):
    """Which blocks does a token read, and how much of dense attention do they hold? A recorded text, letter by letter.

    step: letters decoded so far; layer, key_head: whose list; active: the share of blocks. Below, the share of
    attention's mass that the list caught at every step.
    """
    import plotly.graph_objects as go

    text, first, size, _ = _reads(active)
    blocks, caught = _read_at(active, layer, key_head)
    now, rows = first + step, -(-len(text) // COLUMNS)
    wide = COLUMNS // size
    kind = [[None] * wide for _ in range(rows)]
    for block in range(-(-now // size)):
        kind[block // wide][block % wide] = 1 if block in blocks[step - 1] else 0
    shown = [("⏎" if letter == "\n" else letter) for letter in text[:now]]
    place = [(number % COLUMNS, number // COLUMNS) for number in range(now)]
    last = place[-1]
    traces = [
        go.Heatmap(z=kind, x=[size * (0.5 + each) - 0.5 for each in range(wide)], y=list(range(rows)), zmin=0, zmax=1,
                   colorscale=[[0, theme.GRID], [0.5, theme.GRID], [0.5, TINT], [1, TINT]], showscale=False,
                   xgap=3, ygap=4, hoverinfo="skip"),
        go.Scatter(x=[x for x, _ in place], y=[y for _, y in place], text=shown, mode="text", hoverinfo="skip",
                   textfont=dict(family="ui-monospace, DejaVu Sans Mono, monospace", color=theme.INK)),
        go.Scatter(x=list(range(1, len(caught) + 1)), y=list(caught), mode="lines", xaxis="x2", yaxis="y2",
                   line=dict(color=theme.BLUE, width=2), hovertemplate="letter %{x}: %{y} %<extra></extra>"),
        go.Scatter(x=[step], y=[caught[step - 1]], mode="markers", xaxis="x2", yaxis="y2", hoverinfo="skip",
                   marker=dict(symbol="circle-open", size=15, color=theme.INK, line=dict(width=3))),
    ]  # fmt: skip
    box_ = dict(type="rect", x0=last[0] - 0.5, x1=last[0] + 0.5, y0=last[1] - 0.45, y1=last[1] + 0.45,
                line=dict(color=theme.VERMILLION, width=3))  # fmt: skip
    count = len(blocks[step - 1])
    notes = [
        theme.heading(f"<b>Layer {layer}</b>: {count} of {-(-now // size)} blocks read (tinted)"),
        theme.heading(f"<b>Mass of attention caught</b>: {caught[step - 1]} %", "2"),
    ]
    hidden = dict(showticklabels=False, showgrid=False, ticks="")
    return theme.figure(
        *traces, height=590, annotations=notes, shapes=[box_], showlegend=False, font=dict(size=16),
        meta=dict(narrow={"font.size": theme.SMALL}), margin=dict(l=8, r=8, t=26, b=8),
        xaxis=dict(range=[-0.7, COLUMNS - 0.3], **hidden),
        yaxis=dict(domain=[0.34, 1], range=[rows - 0.4, -0.6], **hidden),
        xaxis2=dict(anchor="y2", title=dict(text="letters decoded"), range=[0, len(caught) + 2]),
        yaxis2=dict(anchor="x2", domain=[0, 0.24], range=[0, 106], tickvals=[0, 50, 100], ticksuffix=" %"),
    )  # fmt: skip


def reads_says(step=64, layer=1, key_head=1, active=0.1):
    """`reads` in a sentence."""
    _, first, size, _ = _reads(active)
    blocks, caught = _read_at(active, layer, key_head)
    far = sum((block + 1) * size <= first + step - 64 for block in blocks[step - 1])
    mean = sum(caught) / len(caught)
    return (
        f"After {step} decoded letters layer {layer}, key head {key_head} reads {len(blocks[step - 1])} of "
        f"{-(-(first + step) // size)} blocks, {far} of them more than 64 letters back; they hold "
        f"{caught[step - 1]} per cent of dense attention's mass, {mean:.0f} per cent on average over the text."
    )


def drift_least():
    """The least number of blocks that the drawn run of the drift reads: the fewest recorded."""
    return min(row["least"] for row in measured(RUN, what="drift"))


@functools.cache
def _drift(period):
    """Relative error of the cache's values after every step, by layer from 1: of the recorded run."""
    return claims.value_errors(drift_least(), period)


OVER = ("all rows of the cache", "the rows since the last pass")


def _error(period, layer, over):
    """The error at each step, None where no row is wrong.

    over: OVER[1] counts the error against the rows that no pass has mended yet, if all values are equally long.
    """
    first, layers = _drift(period)
    if over == OVER[0]:
        return layers[layer - 1]
    since = [step % period if period else step for step in range(1, len(layers[0]) + 1)]
    return [
        error * math.sqrt((first + step) / count) if count else None
        for step, (error, count) in enumerate(zip(layers[layer - 1], since, strict=True), 1)
    ]


@functools.cache
def _most_drift(over):
    """The top of the drift's axis, the same for every layer and period."""
    most = max(
        each for period in (0, 128, 32, 8) for layer in (1, 2, 3) for each in _error(period, layer, over) if each
    )
    return math.ceil(21 * most) / 20


def drift(period=32, layer=3, over=OVER[0]):
    """How far is the cache from the dense one? The error of its values after every step, rectified and never.

    The recorded run that reads the fewest blocks.
    """
    import plotly.graph_objects as go

    looks = ((0, "never rectified", theme.QUIET, "dash", 3),
             (period, f"rectified {period_words(period)}", theme.BLUE, "solid", 3))  # fmt: skip
    traces = []
    for each, name, colour, dash, width in looks:
        errors = _error(each, layer, over)
        traces.append(go.Scatter(
            x=list(range(1, len(errors) + 1)), y=errors, mode="lines", name=name,
            line=dict(color=colour, dash=dash, width=width), hovertemplate="letter %{x}: %{y:.3f}<extra></extra>",
        ))  # fmt: skip
    return theme.figure(
        *traces, height=340, showlegend=True,
        xaxis=dict(title=dict(text="letters decoded")),
        yaxis=dict(title=dict(text=f"error of layer {layer}'s values, over<br>{over}"), range=[0, _most_drift(over)]),
    )  # fmt: skip


def drift_says(period=32, layer=3, over=OVER[0]):
    """`drift` in a sentence."""
    errors, never = ([each for each in _error(every, layer, over) if each is not None] for every in (period, 0))
    return (
        f"Layer {layer}, over {over}: after {len(never)} letters the values are {theme.significant(never[-1], 2)} off "
        f"if never rectified; rectified {period_words(period)} they are never more than "
        f"{theme.significant(max(errors), 2)} off, and at most {theme.significant(max(errors[-max(period, 2) :]), 2)} "
        "before the last pass."
    )
