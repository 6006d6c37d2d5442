"""The named stacks as they were recorded: loss against what is kept, and the time of a token as the text grows."""

import math

from effattn_core import costs
from effattn_core import stack_recorded as recorded
from effattn_core.stack_recorded import BEST, PLAIN
from figures import theme

LOOKS = {PLAIN: (theme.VERMILLION, "square"), BEST: (theme.BLUE, "star")}
BYTES = [1 << power for power in range(12, 31, 3)]  # the ticks of what is kept
OTHER = ("#8C8C8C", "circle")
LINES = {"chosen": (theme.BLUE, "solid"), PLAIN: (theme.VERMILLION, "dash"), "other": ("#8C8C8C", "dot")}


def rows():
    """Rows for a table, a stack each: what it cost to train and what it costs to decode, beside the plain one."""
    last = recorded.lengths()[-1]
    return [_row(name, last) for name in recorded.names()]


def _row(name, last):
    mean, noise = recorded.beside_plain(name)
    ratio = recorded.time_ratio(name, last)
    return {
        "stack": name,
        "parameters": round(recorded.trained(name, "parameters")),
        "met": round(recorded.trained(name, "met")),
        "loss": f"{recorded.trained(name, 'loss'):.3f}",
        "less plain's": "–" if name == PLAIN else f"{mean:+.3f} ± {noise:.3f}",
        "kept": costs.format_bytes(recorded.kept(name, last)),
        "token": "scattered" if ratio is None else f"{ratio:.2f}",
        "optimizer": costs.format_bytes(recorded.trained(name, "optimizer_bytes")),
    }


def trade(tokens):
    """What does a smaller cache cost in loss? A mark per stack, its seeds as dots, over the bytes kept of a text."""
    import plotly.graph_objects as go

    traces, notes = [], []
    placed = sorted(recorded.names(), key=lambda name: recorded.kept(name, tokens))
    for number, name in enumerate(placed):
        (colour, symbol), seeds = LOOKS.get(name, OTHER), list(recorded.losses(name).values())
        size, mean = recorded.kept(name, tokens), recorded.trained(name, "loss")
        mark = dict(color=colour, symbol=symbol, size=13, line=dict(color=theme.INK, width=1))
        told = f"{name}: {costs.format_bytes(size)}, loss {mean:.3f}<extra></extra>"
        traces.append(go.Scatter(x=[size] * len(seeds), y=seeds, mode="markers", hoverinfo="skip", showlegend=False,
                                 marker=dict(color=colour, size=5)))  # fmt: skip
        traces.append(go.Scatter(x=[size], y=[mean], mode="markers", marker=mark, name=name, hovertemplate=told,
                                 showlegend=False))  # fmt: skip
        notes.append(_label(name, size, seeds, number))
    return theme.figure(
        *traces, height=400, annotations=notes,
        meta=dict(narrow={f"annotations.{place}.font.size": theme.SMALL for place in range(len(notes))}),
        xaxis=dict(type="log", range=_axis([math.log10(size) for size in _sizes()], 0.1), tickvals=BYTES,
                   title=dict(text=f"bytes kept of {theme.tokens(tokens)} tokens"),
                   ticktext=[costs.format_bytes(size) for size in BYTES]),
        yaxis=dict(title=dict(text="held-out loss, nats per letter"), range=_axis(_losses(), 0.25)),
    )  # fmt: skip


def _sizes():
    return [recorded.kept(name, tokens) for name in recorded.names() for tokens in recorded.lengths()]


def _losses():
    return [loss for name in recorded.names() for loss in recorded.losses(name).values()]


def _axis(values, share):
    """An axis that holds all states of a figure, with a share of its length as room for names at both ends."""
    room = share * (max(values) - min(values))
    return [min(values) - room, max(values) + room]


def _label(name, size, seeds, place):
    """A stack's name over its seeds, or under them for every second, so that neighbours do not meet."""
    above, side = place % 2 == 0, "left" if place == 0 else "center"
    edge = dict(y=max(seeds), yanchor="bottom", yshift=8) if above else dict(y=min(seeds), yanchor="top", yshift=-8)
    return dict(text=name, x=math.log10(size), xanchor=side, showarrow=False, font=dict(size=theme.NORMAL), **edge)


def trade_says(tokens):
    """`trade` in a sentence: each stack from the least kept to the most."""
    placed = sorted(recorded.names(), key=lambda name: recorded.kept(name, tokens))
    parts = (
        f"{name} {costs.format_bytes(recorded.kept(name, tokens))} at {recorded.trained(name, 'loss'):.3f}"
        for name in placed
    )
    return f"Bytes kept of {tokens:,} tokens and held-out loss in nats per letter: {'; '.join(parts)}."


def times(stack):
    """How long does a decoded token take as the text grows? One stack beside the plain Transformer, the others grey."""
    import plotly.graph_objects as go

    traces = []
    for name in sorted(recorded.names(), key=lambda each: each == stack):
        found = _ratios(name)
        chosen = name == stack
        colour, dash = (
            (theme.BLUE, "solid") if chosen else (theme.VERMILLION, "dash") if name == PLAIN else (OTHER[0], "dot")
        )
        traces.append(go.Scatter(
            x=list(found), y=list(found.values()), mode="lines+markers", name=name, showlegend=chosen or name == PLAIN,
            line=dict(color=colour, dash=dash, width=3 if chosen else 1.5), marker=dict(size=9 if chosen else 5),
            hovertemplate="%{x:,} tokens: %{y:.2f}<extra>" + name + "</extra>",
        ))  # fmt: skip
    lengths = recorded.lengths()
    return theme.figure(
        *traces, height=360, showlegend=True,
        xaxis=dict(type="log", title=dict(text="tokens kept"), tickvals=lengths,
                   ticktext=[theme.tokens(each) for each in lengths]),
        yaxis=dict(title=dict(text="time of a token, over the plain one's"), rangemode="tozero"),
    )  # fmt: skip


def _ratios(name):
    """Tokens -> ratio, where the times do not spread too far to say one."""
    found = {tokens: recorded.time_ratio(name, tokens) for tokens in recorded.lengths()}
    return {tokens: ratio for tokens, ratio in found.items() if ratio is not None}


def times_says(stack):
    """`times` in a sentence."""
    parts = (f"{ratio:.2f} at {theme.tokens(tokens)} tokens" for tokens, ratio in _ratios(stack).items())
    return f"Time of a decoded token of {stack}, over the plain Transformer's: {', '.join(parts) or 'too scattered'}."
