"""Figures of trained YOCO models: what the gates keep along a passage, and which facts are found at which depth."""

import math

from figures import theme
from figures.measured import looks

LONGEST = 1 << 14  # letters: a half-life beyond is drawn as this one


def _half_life(log_gate):
    """Tokens until half is left, if every token kept as much as this one does; at most LONGEST."""
    return min(LONGEST, math.log(2) / max(-log_gate, 1e-9))


def gates(passage, log_gates, head=0):
    """What does each letter of a passage leave of the past? The half-life that its gate stands for, a bar per letter.

    log_gates: [heads][letters], natural logarithms, at most 0; a half-life beyond LONGEST is drawn as LONGEST. Raises
    ValueError where letters and gates do not pair.
    """
    import plotly.graph_objects as go

    row = log_gates[head]
    if len(row) != len(passage):
        raise ValueError(f"each letter needs a gate; got {len(passage)} letters and {len(row)} gates.")
    lives = [_half_life(each) for each in row]
    low, high = (edge(_half_life(each) for each in row) for edge in (min, max))
    shown = [letter.replace("\n", "⏎").replace(" ", "·") for letter in passage]
    sizes = [math.log2(each) for each in lives]
    starts = [at for at, letter in enumerate(passage) if letter.strip() and not passage[at - 1 : at].strip()]
    floor = math.floor(math.log2(low))
    ticks = list(range(floor, math.ceil(math.log2(high)) + 1))
    bars = go.Bar(
        x=list(range(len(row))), y=[size - floor for size in sizes], base=floor, width=0.8,
        marker=dict(color=theme.BLUE), customdata=[theme.significant(each, 2) for each in lives], text=shown,
        textposition="none", hovertemplate="%{text}: half-life %{customdata} letters<extra></extra>",
    )  # fmt: skip
    return theme.figure(
        bars, height=330, showlegend=False, bargap=0.1, margin=dict(l=8, r=8, t=8, b=8),
        # A phone has room for the first letter of each word.
        meta=dict(narrow={"xaxis.tickvals": starts, "xaxis.ticktext": [shown[at] for at in starts]}),
        xaxis=dict(tickvals=list(range(len(row))), ticktext=shown, tickangle=0, showgrid=False, ticks="",
                   tickfont=dict(family="ui-monospace, DejaVu Sans Mono, monospace", size=theme.SMALL)),
        yaxis=dict(title=dict(text="half-life, letters"), range=[floor, ticks[-1] + 0.2], tickvals=ticks,
                   ticktext=[f"{2.0**tick:,g}" for tick in ticks]),
    )  # fmt: skip


def gates_says(passage, log_gates, head=0):
    """`gates` in a sentence: the letters after which most and least is left."""
    lives = [_half_life(each) for each in log_gates[head]]
    least, most = (edge(range(len(lives)), key=lives.__getitem__) for edge in (min, max))
    words = [repr(passage[at].replace("\n", "line end")) for at in (least, most)]
    return (
        f"Head {head}: half-lives from {theme.significant(lives[least], 2)} letters at {words[0]}, letter {least + 1}, "
        f"to {theme.significant(lives[most], 2)} at {words[1]}, letter {most + 1}."
    )


def needles(rows, tokens):
    """Which facts are found? The share by depth, mean over seeds with the smallest and largest; one line per model.

    rows: dicts with name, tokens, depth, found, one per seed; tokens: the length of text that is drawn. Raises
    ValueError where there is no such row.
    """
    import plotly.graph_objects as go

    groups, traces = _shares(rows, tokens), []
    for name, colour, dash, symbol in looks(list(groups)):
        shares = groups[name]
        means = [sum(found) / len(found) for found in shares.values()]
        traces.append(go.Scatter(
            x=list(shares), y=means, mode="lines+markers", name=name,
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=10),
            error_y=dict(type="data", symmetric=False, thickness=1.5, width=5, color=theme.INK,
                         array=[max(found) - mean for found, mean in zip(shares.values(), means, strict=True)],
                         arrayminus=[mean - min(found) for found, mean in zip(shares.values(), means, strict=True)]),
            hovertemplate=name + ", depth %{x:.0%}: %{y:.0%} found<extra></extra>",
        ))  # fmt: skip
    return theme.figure(
        *traces, height=380, showlegend=True, annotations=[], margin=dict(l=8, r=14, t=8, b=8),
        xaxis=dict(title=dict(text=f"depth of the fact in {theme.tokens(tokens)} tokens"), tickformat=".0%",
                   tickvals=sorted({row["depth"] for row in rows}), range=[-0.06, 1.06]),
        yaxis=dict(title=dict(text="found"), tickformat=".0%", range=[-0.05, 1.08], tickvals=[0, 0.25, 0.5, 0.75, 1]),
    )  # fmt: skip


def _shares(rows, tokens):
    """name -> depth -> the shares of all seeds."""
    groups = {}
    for row in rows:
        if row["tokens"] == tokens:
            groups.setdefault(row["name"], {}).setdefault(row["depth"], []).append(row["found"])
    if not groups:
        raise ValueError(f"needles needs a row of {tokens} tokens; there is none.")
    return groups


def needles_says(rows, tokens):
    """`needles` in a sentence: each model's mean over depths."""
    told = []
    for name, shares in _shares(rows, tokens).items():
        every = [found for each in shares.values() for found in each]
        told.append(f"{name} {sum(every) / len(every):.0%} (from {min(every):.0%} to {max(every):.0%})")
    return f"Facts found in {theme.tokens(tokens)} tokens, over depths and seeds: {'; '.join(told)}."
