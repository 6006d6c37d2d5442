"""Figures of chunks whose gates move: at which halving a pair meets, and what a factor that is split costs.

Numbers come from running sums of log gates in float64.
"""

import math

from figures import theme

CHUNKS = (4, 8, 16)


def _level(late, early, size):
    """At which halving of a chunk of `size` tokens two tokens part: 1 at the first, 0 for a token with itself."""
    return 0 if late == early else size.bit_length() - (late ^ early).bit_length()


def levels(size=8):
    """Through which middle is each pair of tokens measured? The halving of a chunk at which the two part."""
    import plotly.graph_objects as go

    cells = [
        [_level(row, column, size) if column <= row else None for column in range(size)] for row in range(size)
    ]  # fmt: skip
    heat = go.Heatmap(
        z=cells, zmin=0, zmax=4, colorscale=theme.MAGNITUDE, showscale=False, xgap=2, ygap=2,
        text=[["" if cell is None else str(cell or "·") for cell in row] for row in cells], texttemplate="%{text}",
        hovertemplate="row %{y} reads token %{x}: halving %{z}<extra></extra>",
    )  # fmt: skip
    ends = dict(tickvals=[0, size - 1], ticktext=["first", "last"], showgrid=False, ticks="")
    return theme.figure(
        heat, height=340, margin=dict(l=8, r=8, t=8, b=8),
        xaxis=dict(title=dict(text="token that is read, m"), constrain="domain", **ends),
        yaxis=dict(title=dict(text="token that reads, n"), autorange="reversed", scaleanchor="x",
                   constrain="domain", **ends),
    )  # fmt: skip


def levels_says(size=8):
    """`levels` in a sentence."""
    counts = {}
    for row in range(size):
        for column in range(row):
            level = _level(row, column, size)
            counts[level] = counts.get(level, 0) + 1
    told = ", ".join(f"{count} at halving {level}" for level, count in sorted(counts.items()))
    return f"A chunk of {size} tokens: of its pairs {told}; each pair parts at exactly one halving."


SIZE = 64  # tokens of the chunk whose factors are drawn
SHARES = (0.9, 0.5, 0.25, 0.1)
LARGEST = math.log10(3.4028235e38)  # of float32, and bfloat16 is no different


def powers(share):
    """{name: (tokens, powers of ten)} of the factors by which a chunk's fade is split, every gate keeping `share`.

    From the chunk's start, a factor per query and one per key; through the middle, the queries of the second half and
    the keys of the first.
    """
    step, middle = math.log10(share), SIZE // 2 - 1  # G_n = (n + 1) · step; the middle: the first half's last token
    total = [(token + 1) * step for token in range(SIZE)]
    early, late = range(middle + 1), range(middle + 1, SIZE)
    return {
        "query, from the start": (list(range(SIZE)), total),
        "key, from the start": (list(range(SIZE)), [-each for each in total]),
        "query, from the middle": (list(late), [total[n] - total[middle] for n in late]),
        "key, to the middle": (list(early), [total[middle] - total[m] for m in early]),
    }


def split(share=0.25):
    """What does it cost to split e^(G_n - G_m) in two? The powers of ten of both factors, over a chunk of 64 tokens."""
    import plotly.graph_objects as go

    looks = {
        "query, from the start": (theme.ORANGE, "dot", 2.5),
        "key, from the start": (theme.VERMILLION, "solid", 4),
        "query, from the middle": (theme.SKY, "dash", 4),
        "key, to the middle": (theme.BLUE, "solid", 4),
    }
    traces = []
    for name, (x, y) in powers(share).items():
        colour, dash, width = looks[name]
        traces.append(go.Scatter(
            x=[token + 1 for token in x], y=y, name=name, mode="lines", line=dict(color=colour, dash=dash, width=width),
            hovertemplate="token %{x}: 10 to the %{y:.1f}<extra>" + name + "</extra>",
        ))  # fmt: skip
    edge = dict(type="line", xref="paper", x0=0, x1=1, line=dict(color=theme.QUIET, width=1, dash="dash"))
    note = dict(text="largest number of float32", x=1, xref="paper", y=LARGEST, xanchor="left", yanchor="bottom",
                showarrow=False, font=dict(size=theme.SMALL))  # fmt: skip
    return theme.figure(
        *traces, height=400, showlegend=True, shapes=[edge | dict(y0=LARGEST, y1=LARGEST)],
        annotations=[note | dict(x=0)],
        xaxis=dict(title=dict(text="token of the chunk"), tickvals=[1, 16, 32, 48, 64], range=[0, 65]),
        yaxis=dict(title=dict(text="factor, power of ten"), range=[-66, 66], tickvals=[-60, -30, 0, 30, 60]),
    )  # fmt: skip


def split_says(share=0.25):
    """`split` in sentences."""
    found = {name: y for name, (_, y) in powers(share).items()}
    largest = max(found["key, from the start"])
    least = min(found["query, from the middle"] + found["key, to the middle"])
    beyond = next((at + 1 for at, y in enumerate(found["key, from the start"]) if y > LARGEST), None)
    fits = "it still fits into float32" if beyond is None else f"from token {beyond} on it is infinite in float32"
    return (
        f"Each gate keeps {share:g}. Split at the chunk's start, the factor of a key grows to 10 to the "
        f"{largest:.0f}: {fits}. Through the middle both factors lie between 10 to the −{-least:.3g} and 1."
    )
