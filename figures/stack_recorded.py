"""The named stacks as they were recorded: loss against what is kept, and the time of a token as the text grows."""

import math

from effattn_core import costs
from effattn_core import stack_recorded as recorded
from effattn_core.stack_recorded import BEST, PLAIN
from figures import theme

SYMBOLS = ("star", "circle", "diamond", "triangle-up", "cross", "x")  # beside the colours of theme.CLASSES
BYTES = [1 << power for power in range(12, 31, 3)]  # the ticks of what is kept
OWN = {BEST: (theme.BLUE, "star"), PLAIN: ("#8C8C8C", "square")}
LINES = {"chosen": (theme.BLUE, "solid"), PLAIN: (theme.VERMILLION, "dash"), "other": ("#8C8C8C", "dot")}


def rows():
    """Rows for a table, a stack each: what it cost to train and what it costs to decode, beside the plain one."""
    last = recorded.lengths()[-1]
    return [_row(name, last) for name in recorded.names()]


def _row(name, last):
    mean, noise = recorded.beside(name)
    ratios = recorded.ratios(name)
    token = f"{ratios[max(ratios)]:.2f} at {theme.tokens(max(ratios))}" if ratios else "scattered"
    return {
        "stack": name,
        "parameters": round(recorded.trained(name, "parameters")),
        "loss": f"{recorded.trained(name, 'loss'):.3f}",
        "beside plain": "–" if name == PLAIN else f"{mean:+.3f} ± {noise:.3f}",
        "kept": costs.format_bytes(recorded.kept(name, last)),
        "token": token,
        "optimizer": costs.format_bytes(recorded.trained(name, "optimizer_bytes")),
    }


def trade(tokens):
    """What does a smaller cache cost in loss? A mark per stack, its seeds as dots, over the bytes kept of a text."""
    import plotly.graph_objects as go

    traces = []
    for name, (colour, symbol) in looks().items():
        seeds, size = list(recorded.losses(name).values()), recorded.kept(name, tokens)
        mean = sum(seeds) / len(seeds)
        dots = dict(x=[size] * len(seeds), y=seeds, mode="markers", hoverinfo="skip", showlegend=False)
        traces.append(go.Scatter(marker=dict(color=colour, size=5), **dots))
        told = f"{name}: {costs.format_bytes(size)}, loss {mean:.3f}<extra></extra>"
        mark = dict(color=colour, symbol=symbol, size=13, line=dict(color=theme.INK, width=1))
        traces.append(go.Scatter(x=[size], y=[mean], mode="markers", marker=mark, name=name, hovertemplate=told))
    return theme.figure(
        *traces, height=430, showlegend=True,
        xaxis=dict(type="log", range=_axis([math.log10(size) for size in _sizes()], 0.1), tickvals=BYTES,
                   title=dict(text=f"bytes kept of {theme.tokens(tokens)} tokens"),
                   ticktext=[costs.format_bytes(size) for size in BYTES]),
        yaxis=dict(title=dict(text="held-out loss, nats per letter"), range=_axis(_losses(), 0.1)),
    )  # fmt: skip


def looks():
    """Name -> (colour, symbol) of every stack; no two share either."""
    rest = iter([look for look in zip(theme.CLASSES.values(), SYMBOLS, strict=True) if look[0] != theme.BLUE])
    return {name: OWN[name] if name in OWN else next(rest) for name in recorded.names()}


def _sizes():
    return [recorded.kept(name, tokens) for name in recorded.names() for tokens in recorded.lengths()]


def _losses():
    return [loss for name in recorded.names() for loss in recorded.losses(name).values()]


def _axis(values, share):
    """An axis that holds all states of a figure, with a share of its length as room at both ends."""
    room = share * (max(values) - min(values))
    return [min(values) - room, max(values) + room]


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
        found, chosen = recorded.ratios(name), name == stack
        colour, dash = LINES["chosen" if chosen else name if name == PLAIN else "other"]
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


def times_says(stack):
    """`times` in a sentence."""
    parts = (f"{ratio:.2f} at {theme.tokens(tokens)} tokens" for tokens, ratio in recorded.ratios(stack).items())
    return f"Time of a decoded token of {stack}, over the plain Transformer's: {', '.join(parts) or 'too scattered'}."
