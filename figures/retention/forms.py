"""Figures of the retention chapter, one idea each; a builder and, for those who cannot see it, its sentence.

The mask and its half-lives, what a head remembers of a sentence, the pairs of a chunk, and what a chunk size costs.
What 16 bits do to decays and states is in `figures.retention.numerics`; what was measured in `figures.measured`.
"""

import functools
import math

import torch

from effattn_core import costs, retention
from effattn_core.retention import costs as prices
from figures import theme
from figures.attention.forms import TOKENS

CLEAR = "rgba(0,0,0,0)"
HEADS = 8
DECAYS = (*(1 - 2.0**-power for power in range(1, 13)), 1.0)  # from the fifth on, those of the code's eight heads
STEPS = (*range(21), *range(25, 101, 5), *range(110, 401, 10))  # steps ago at which a curve of weights is drawn
REACH = STEPS[-1]

# The plays have it, line ends included: tests/retention/test_figures.py looks it up.
PASSAGE = """To be, or not to be: that is the question:
Whether 'tis nobler in the mind to suffer
The slings and arrows of outrageous fortune,
Or to take arms against a sea of troubles,
And by opposing end them? To die: to sleep;"""
READ = tuple(range(36, len(PASSAGE) + 1, 36))


def count(number):
    """A number of tokens to read at a glance: 2.4, 22, 2,839."""
    return theme.significant(number, 2) if number < 10 else f"{round(number):,}"


def life(decay):
    """Half-life of a decay in tokens, a float; infinite for decay 1."""
    return math.inf if decay == 1 else float(retention.half_life(decay))


def half_life_words(decay, unit="token"):
    """A decay as the book says it: "half-life 22 tokens"; 1 "never fades"."""
    words = count(life(decay)) if decay < 1 else ""
    return f"half-life {words} {unit}{'s' * (words != '1')}" if words else "never fades"


@functools.cache
def schedule_of(variant, heads=HEADS):
    """The decays of `effattn_core.retention.decay_schedule` as a tuple of floats."""
    return tuple(retention.decay_schedule(heads, variant).tolist())


def _head_with(decay, schedule):
    """ "head 0", or "" if no head of the schedule has that decay."""
    decays = schedule_of(schedule)
    return f"head {decays.index(decay)}" if decay in decays else ""


def _entries(decay, time):
    """The mask of one head as lists, and how many decimals tell its decay from 1."""
    mask = retention.decay_mask(torch.tensor([decay], dtype=torch.float64), time)[0].tolist()
    return mask, next(digits for digits in range(2, 8) if decay == 1 or round(decay, digits) < 1)


def mask(decay=31 / 32, schedule="code", tokens=TOKENS):
    """How much of a token is left some steps later? The mask of six tokens as numbers, and the weight over hundreds.

    decay: that of the head drawn thick; schedule: "code" or "paper", whose eight heads are drawn thin behind it.
    """
    import plotly.graph_objects as go

    entries, digits = _entries(decay, len(tokens))
    place = list(range(len(tokens)))
    marks = [
        dict(text=f"{entry:.{digits}f}" if entry < 1 else "1", x=x, y=y, showarrow=False, font=dict(
            size=theme.NORMAL if digits < 4 else theme.SMALL, color="#000000" if entry > 0.45 else "#ffffff"))
        for y, row in enumerate(entries) for x, entry in enumerate(row) if x <= y
    ]  # fmt: skip
    seen = [[entry if x <= y else None for x, entry in enumerate(row)] for y, row in enumerate(entries)]
    thin = dict(x=[], y=[])
    points, ringed = dict(x=[], y=[], text=[], textposition=[]), []
    for head, each in enumerate(schedule_of(schedule)):
        thin["x"] += [*STEPS, None]
        thin["y"] += [*(each**step for step in STEPS), None]
        half = min(life(each), REACH)
        points["x"].append(half)
        points["y"].append(each**half)
        points["text"].append(str(head))
        ringed.append(each == decay)  # the ring stands for its dot, and its number keeps clear of the ring
        # Where the first dots stand close, numbers do not touch; a faster decay's ring stands left of the first.
        side = "top right" if head else "top left" if ringed[-1] else "bottom right"
        points["textposition"].append(side if half < REACH else "middle right")
    panel = dict(xaxis="x2", yaxis="y2", hoverinfo="skip")
    traces = [
        go.Heatmap(z=seen, x=place, y=place, zmin=0, zmax=1, colorscale=theme.MAGNITUDE, showscale=False, xgap=3,
                   ygap=3, hoverinfo="skip"),
        go.Scatter(**thin, mode="lines", line=dict(color=theme.QUIET, width=1.5), **panel),
        go.Scatter(**points, mode="markers+text", cliponaxis=False, textfont=dict(size=theme.SMALL, color=theme.INK),
                   marker=dict(size=[20 if each else 6 for each in ringed], line=dict(width=0),
                               color=[CLEAR if each else theme.QUIET for each in ringed]), **panel),
        go.Scatter(x=list(STEPS), y=[decay**step for step in STEPS], mode="lines", xaxis="x2", yaxis="y2",
                   line=dict(color=theme.BLUE, width=5), hovertemplate="%{x} steps ago: %{y:.4f}<extra></extra>"),
        go.Scatter(x=[min(life(decay), REACH)], y=[0.5], mode="markers", visible=life(decay) <= REACH, **panel,
                   cliponaxis=False, marker=dict(symbol="circle-open", size=16, color=theme.INK, line=dict(width=3))),
    ]  # fmt: skip
    half = dict(type="line", xref="x2 domain", x0=0, x1=1, yref="y2", y0=0.5, y1=0.5,
                line=dict(color=theme.QUIET, width=1, dash="dash"))  # fmt: skip
    annotations = [
        theme.heading(f"<b>Mask</b>: {theme.significant(decay, 4)}<sup>i − j</sup>, empty where j > i"),
        theme.heading(f"<b>Weight of a token</b>: {half_life_words(decay)}", "2"),
        *marks,
    ]
    narrow = {"height": 720, "xaxis.domain": [0, 1], "yaxis.domain": [0.53, 0.97], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0, 0.41]}  # fmt: skip
    names = dict(tickvals=place, ticktext=tokens, showgrid=False, ticks="")
    return theme.figure(
        *traces, height=390, annotations=annotations, shapes=[half], showlegend=False, meta=dict(narrow=narrow),
        xaxis=dict(domain=[0, 0.46], title=dict(text="token j"), **names),
        yaxis=dict(domain=[0, 0.92], title=dict(text="token i"), autorange="reversed", **names),
        xaxis2=dict(domain=[0.56, 1], anchor="y2", range=[-16, REACH + 24], tickvals=[0, 100, 200, 300, 400],
                    title=dict(text="steps ago; numbers: heads")),
        yaxis2=dict(domain=[0, 0.92], anchor="x2", range=[0, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1],
                    ticktext=["0", "0.25", "half", "0.75", "1"]),
    )  # fmt: skip


def mask_says(decay=31 / 32, schedule="code", tokens=TOKENS):
    """`mask` in a sentence."""
    (entries, digits), head = _entries(decay, len(tokens)), _head_with(decay, schedule)
    named = {"code": "the default schedule", "paper": "the schedule of the paper's experiments"}[schedule]
    whose = f"as {head} of {named} has it" if head else f"as no head of {named} has"
    if decay == 1:
        return f"Decay 1, {whose}: nothing fades, and the mask is that of causal attention, ones and empty entries."
    return (
        f"Decay {theme.significant(decay, 4)}, {whose}: “{tokens[-1]}” still sees “{tokens[0]}”, {len(tokens) - 1} "
        f"steps ago, with weight {entries[-1][0]:.{digits}f}; {half_life_words(decay)}."
    )


@functools.cache
def _remembered(head, read):
    """Weight of each character read so far, as the last one read sees it: the last row of the mask."""
    decay = torch.tensor([schedule_of("code")[head]], dtype=torch.float64)
    return tuple(retention.decay_mask(decay, read)[0, -1].tolist())


def _kept(head, read, share):
    """How many of the characters read still have at least `share` of their weight."""
    return sum(weight >= share for weight in _remembered(head, read))


def memory(head=0, read=READ[-1], passage=PASSAGE):
    """What does a head still remember of what it read? The passage up to `read` characters, a bar of weight under each.

    head: of the code's eight; its half-life is counted in characters, as this book's language models read. Raises
    ValueError for more characters than the passage has.
    """
    import plotly.graph_objects as go

    if not 1 <= read <= len(passage):
        raise ValueError(f"read must lie in 1..{len(passage)}; it is {read}.")
    lines = passage.split("\n")
    where = [(column, row) for row, line in enumerate(lines) for column in range(len(line) + 1)][:read]
    weights = _remembered(head, read)
    half, tenth = (read - _kept(head, read, share) for share in (0.5, 0.1))
    # Rows hang one unit apart, letters in the upper part of each, bars of up to half a unit below them.
    looks = [
        ("at least half left", slice(half, read), dict(color=theme.BLUE)),
        ("a tenth to a half", slice(tenth, half), dict(color=theme.ORANGE, pattern=dict(shape="/", solidity=0.4))),
        ("less than a tenth", slice(0, tenth), dict(color=theme.QUIET)),
    ]
    traces = [
        go.Bar(
            x=[column for column, _ in where[part]], y=[0.5 * weight for weight in weights[part]], width=0.86,
            base=[-0.9 - row for _, row in where[part]], marker=look, name=name, customdata=weights[part],
            hovertemplate="weight %{customdata:.3f}<extra></extra>",
        )
        for name, part, look in looks
    ]  # fmt: skip
    traces.append(go.Scatter(
        x=[column for column, _ in where], y=[-0.22 - row for _, row in where], mode="text", showlegend=False,
        text=list(passage[:read].replace("\n", " ")), hoverinfo="skip",
        textfont=dict(family="ui-monospace, DejaVu Sans Mono, monospace", color=theme.INK),
    ))  # fmt: skip
    annotations, shapes = [], []
    for name, first in (("1/2", half), ("1/10", tenth)):
        if first == 0:
            continue  # everything read is newer than that
        column, row = where[first]
        shapes.append(dict(type="line", x0=column - 0.5, x1=column - 0.5, y0=-0.37 - row, y1=-0.95 - row,
                           line=dict(color=theme.INK, width=2)))  # fmt: skip
        side = "right" if column > 5 else "left"
        annotations.append(dict(text=f"<b>{name}</b>", x=column - 0.5, xanchor=side, y=-0.36 - row, yanchor="top",
                                showarrow=False, font=dict(size=theme.SMALL), borderpad=0,
                                bgcolor=CLEAR if side == "right" else theme.PAPER))  # fmt: skip
    decay = schedule_of("code")[head]
    title = f"<b>Head {head}</b>, decay {theme.significant(decay, 4)}: {half_life_words(decay, 'character')}"
    annotations.append(theme.heading(title))
    width = max(map(len, lines))
    hidden = dict(showticklabels=False, showgrid=False, ticks="")
    return theme.figure(
        *traces, height=90 + 58 * len(lines), annotations=annotations, shapes=shapes, barmode="overlay", bargap=0,
        font=dict(size=17), meta=dict(narrow={"font.size": theme.SMALL}), showlegend=True,
        legend=dict(y=0, yanchor="top", traceorder="normal"),
        xaxis=dict(range=[-0.7, width + 0.6], **hidden), yaxis=dict(range=[-len(lines), 0], domain=[0, 0.93], **hidden),
    )  # fmt: skip


def memory_says(head=0, read=READ[-1], passage=PASSAGE):
    """`memory` in a sentence."""
    decay, kept = schedule_of("code")[head], _kept(head, read, 0.5)
    first = _remembered(head, read)[0]
    share = theme.significant(first, 2) if first >= 1e-3 else "less than 0.001"
    many = f"all {read}" if kept == read else f"the last {kept} of {read}"
    return (
        f"Head {head}, {half_life_words(decay, 'character')}: {many} characters read have at least half of their "
        f"weight left; the first letter has {share}."
    )


def _chunks(chunk, time):
    """First token of each chunk, and its length: the last one may be shorter."""
    return [(first, min(chunk, time - first)) for first in range(0, time, chunk)]


def _pairs(chunk, time):
    """0 never touched, 1 inside a chunk, 2 inside but masked away, 3 reached through the state: [queries][keys]."""
    number = torch.arange(time) // chunk
    position = torch.arange(time)
    past, same = position[:, None] >= position, number[:, None] == number
    return (same & past).int() + 2 * (same & ~past).int() + 3 * (past & ~same).int()


def _chunk_words(chunk, time):
    """How the text is cut: "3 chunks of 6, the last of 4"; at the two ends, the name of the form."""
    lengths = [length for _, length in _chunks(chunk, time)]
    words = f"{len(lengths)} chunk{'s' * (len(lengths) > 1)} of {lengths[0]}"
    if lengths[-1] < lengths[0]:
        return f"{words}, the last of {lengths[-1]}"
    return words + {1: ": the recurrent form", time: ": the parallel form"}.get(lengths[0], "")


def chunk_diagram(chunk=4, time=16):
    """Which pairs of tokens does a chunk size compute, and which does the state stand for? All pairs, by kind.

    A chunk of one token is the recurrent form, a chunk of all tokens the parallel one. Raises ValueError for no chunk.
    """
    import plotly.graph_objects as go

    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 token; it is {chunk}.")
    kinds = _pairs(chunk, time)
    colours = [theme.GRID, theme.BLUE, theme.SKY, theme.ORANGE]
    scale = [[edge / 4, colours[kind]] for kind in range(4) for edge in (kind, kind + 1)]
    words = ["not seen", "computed inside its chunk", "computed, then masked away", "through the state"]
    traces = [go.Heatmap(
        z=kinds.tolist(), zmin=-0.5, zmax=3.5, colorscale=scale, showscale=False, xgap=1.5, ygap=1.5,
        customdata=[[words[kind] for kind in row] for row in kinds.tolist()],
        hovertemplate="token %{y} sees token %{x}: %{customdata}<extra></extra>",
    )]  # fmt: skip
    for kind, symbol in ((2, "x-thin"), (3, "line-ne")):
        rows, columns = (kinds == kind).nonzero(as_tuple=True)
        traces.append(go.Scatter(x=columns.tolist(), y=rows.tolist(), mode="markers", hoverinfo="skip", marker=dict(
            symbol=symbol, size=9, line=dict(width=2, color="#000000"))))  # fmt: skip
    inside, wasted, state = (int((kinds == kind).sum()) for kind in (1, 2, 3))
    number = len(_chunks(chunk, time))
    ledger = [
        f"<b>{_chunk_words(chunk, time)}</b>",
        f'<span style="color:{theme.BLUE}">■</span> <b>{inside}</b> pairs inside a chunk',
        f'<span style="color:{theme.SKY}">■</span> ✕ <b>{wasted}</b> masked away',
        f'<span style="color:{theme.ORANGE}">■</span> ⁄ <b>{state}</b> through the state',
        f'<span style="color:{theme.GRID}">■</span> the future, never touched',
        f"state handed on <b>{number - 1}</b> times",
    ]
    note = dict(text="<br>".join(ledger), xref="paper", x=0.62, xanchor="left", yref="paper", y=0.97, yanchor="top",
                align="left", showarrow=False, font=dict(size=theme.LARGE))  # fmt: skip
    narrow = {"height": 490, "xaxis.domain": [0, 1], "yaxis.domain": [0, 0.72], "annotations.0.x": 0,
              "annotations.0.y": 1, "annotations.0.font.size": theme.NORMAL}  # fmt: skip
    ticks = dict(tickvals=list(range(0, time, 4)), showgrid=False, ticks="", range=[-0.5, time - 0.5])
    return theme.figure(
        *traces, height=400, annotations=[note], showlegend=False, meta=dict(narrow=narrow),
        xaxis=dict(domain=[0, 0.6], title=dict(text="token j"), constrain="domain", **ticks),
        yaxis=dict(title=dict(text="token i"), scaleanchor="x", constrain="domain",
                   **{**ticks, "range": [time - 0.5, -0.5]}),
    )  # fmt: skip


def chunk_diagram_says(chunk=4, time=16):
    """`chunk_diagram` in a sentence."""
    kinds, number = _pairs(chunk, time), len(_chunks(chunk, time))
    inside, wasted, state = (int((kinds == kind).sum()) for kind in (1, 2, 3))
    return (
        f"{time} tokens in {_chunk_words(chunk, time)}; {inside} pairs count inside a chunk, {wasted} are computed "
        f"there and masked away; {state} are reached through the state, which is handed on {number - 1} times."
    )


def _split(chunk, head_dim):
    """Operations and bytes per token and head: (what, (part, words), (other part, words), share of the first)."""
    price = prices.chunk_cost(chunk, head_dim, head_dim)
    states = price.moved - prices.chunk_cost(math.inf, head_dim, head_dim).moved  # an endless chunk stores no state
    flops, size, tokens = costs.format_flops, costs.format_bytes, price.moved - states
    return [
        ("Operations", ("inside", flops(price.inner)), ("state", flops(price.state)),
         price.inner / (price.inner + price.state)),
        ("Bytes moved", ("tokens", size(tokens)), ("states", size(states)), tokens / price.moved),
    ]  # fmt: skip


def chunk_split(chunk=128, head_dim=128, hardware="H100 SXM"):
    """What does a chunk size cost? Operations and bytes per token and head, and the time estimated for every size.

    The time is the longer of computing and moving, as in the machine chapter. chunk: one of
    `effattn_core.retention.costs.CHUNKS`; head_dim: of keys and of values, in bfloat16.
    """
    import plotly.graph_objects as go

    device, parts = costs.HARDWARE[hardware], _split(chunk, head_dim)
    bar = dict(orientation="h", y=[1, 0], width=0.34, hoverinfo="skip", showlegend=False)
    hatch = dict(color=theme.ORANGE, pattern=dict(shape="/", solidity=0.3))
    traces = [
        go.Bar(x=[share for *_, share in parts], marker=dict(color=theme.BLUE), **bar),
        go.Bar(x=[1 - share for *_, share in parts], marker=hatch, **bar),
    ]
    sizes = list(prices.CHUNKS)
    each = [prices.chunk_cost(size, head_dim, head_dim) for size in sizes]
    seconds = [price.seconds(device) for price in each]
    moving = [price.moved / device.bandwidth for price in each]
    computing = [(price.inner + price.state) / device.peak("bfloat16") for price in each]
    curves = [
        ("the longer", seconds, "solid", theme.INK, 7),
        ("computing", computing, "dash", theme.BLUE, 3),
        ("moving", moving, "dot", theme.VERMILLION, 3),
    ]
    panel = dict(xaxis="x2", yaxis="y2")
    for name, spent, dash, colour, width in curves:
        traces.append(go.Scatter(
            x=sizes, y=[1e9 * second for second in spent], mode="lines", name=name, **panel,
            line=dict(color=colour, dash=dash, width=width), hovertemplate=f"{name}: %{{y:.3g}} ns<extra></extra>",
        ))  # fmt: skip
    best, total = prices.best_chunk(device, head_dim, head_dim), dict(zip(sizes, seconds, strict=True))
    for size, symbol, pixels in ((best, "star", 16), (chunk, "circle-open", 22)):
        marker = dict(symbol=symbol, size=pixels, color=theme.INK, line=dict(width=3 if size == chunk else 0))
        traces.append(go.Scatter(x=[size], y=[1e9 * total[size]], mode="markers", hoverinfo="skip", showlegend=False,
                                 cliponaxis=False, marker=marker, **panel))  # fmt: skip
    annotations = []
    for row, (what, first, second, _) in zip((1, 0), parts, strict=True):
        annotations.append(theme.heading(f"<b>{what}</b><br>{first[0]} <b>{first[1]}</b>", row=row))
        annotations.append(theme.heading(f"{second[0]} <b>{second[1]}</b>", side="right", row=row))
    annotations.append(theme.heading(
        f"<b>Time</b>, ns: an estimate from published<br>peaks of an {hardware}, not a measurement", "2"))  # fmt: skip
    annotations.append(dict(
        text=f"★ least at {best}<br>○ {chunk}: {theme.significant(1e9 * total[chunk], 2)} ns", xref="x2 domain", x=1,
        xanchor="right", yref="y2 domain", y=1, yanchor="top", align="right", showarrow=False,
    ))  # fmt: skip
    narrow = {"height": 760, "xaxis.domain": [0, 1], "yaxis.domain": [0.66, 1], "xaxis2.domain": [0, 1],
              "yaxis2.domain": [0.1, 0.51], "legend.x": 0}  # fmt: skip
    return theme.figure(
        *traces, annotations=annotations, height=400, barmode="stack", showlegend=True, meta=dict(narrow=narrow),
        margin=dict(l=16, r=20, t=8, b=8),
        legend=dict(x=0.52, y=0, yanchor="bottom", yref="container", traceorder="normal"),
        xaxis=dict(domain=[0, 0.44], range=[0, 1], tickvals=[0, 0.5, 1], tickformat=".0%", showgrid=False,
                   title=dict(text="share, per token and head")),
        yaxis=dict(domain=[0.12, 0.95], range=[-0.3, 1.75], showticklabels=False, showgrid=False),
        xaxis2=dict(domain=[0.56, 1], anchor="y2", type="log", tickvals=sizes, range=[0.82, 3.08],
                    title=dict(text="chunk, tokens")),
        yaxis2=dict(domain=[0.12, 0.86], anchor="x2", type="log", range=[-2, 1.6], tickvals=[0.01, 0.1, 1, 10],
                    ticktext=["0.01", "0.1", "1", "10"]),
    )  # fmt: skip


def chunk_split_says(chunk=128, head_dim=128, hardware="H100 SXM"):
    """`chunk_split` in a sentence."""
    device = costs.HARDWARE[hardware]
    (_, inside, state, share), (_, _, states, _) = _split(chunk, head_dim)
    best = prices.best_chunk(device, head_dim, head_dim)
    nanoseconds = (1e9 * prices.chunk_cost(size, head_dim, head_dim).seconds(device) for size in (chunk, best))
    now, least = (theme.significant(each, 2) for each in nanoseconds)
    verdict = "the least of all sizes" if best == chunk else f"the least is {least} at {best}"
    return (
        f"With chunks of {chunk} and heads of {head_dim}, {share:.0%} of the operations are inside chunks "
        f"({inside[1]}; the state takes {state[1]}), and states move {states[1]} per token and head. Estimated from "
        f"published peaks of an {hardware}, the longer of computing and moving takes {now} nanoseconds per token and "
        f"head, {verdict}."
    )
