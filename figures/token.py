"""Figures of the token chapter: kᵀv and q·S in small numbers, rotary pairs, grouped heads, how unsure a model is."""

import math

import torch

from effattn_core import costs, token
from figures import theme

CLEAR = "rgba(0,0,0,0)"
WORDS = ["the", "cat", "mat"]
KEYS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 1]], dtype=torch.float64)
VALUES = torch.tensor([[2.0, 1, 0, 0], [0, 3, -1, 2], [1, 0, 0, -2]], dtype=torch.float64)


def _number(value):
    return theme.significant(float(value)).replace("-", "−")


def _row(values):
    return "(" + ", ".join(map(_number, values)) + ")"


def outer(pairs=2, query="cat"):
    """How can a matrix remember pairs? kᵀv of the last pair written, the sum S of all, and q S for a word's key.

    pairs: how many of WORDS are written; query: the word whose key asks. Raises ValueError for another word.
    """
    import plotly.graph_objects as go

    if query not in WORDS:
        raise ValueError(f"query must be one of {', '.join(WORDS)}; it is {query!r}.")
    key, value, asking = KEYS[pairs - 1], VALUES[pairs - 1], KEYS[WORDS.index(query)]
    state = token.write(KEYS[:pairs], VALUES[:pairs])
    cells = {}
    for column in range(4):
        cells[1.5 + column, 0] = (value[column], "value")
        cells[7.5 + column, 5] = (token.read(asking, state)[column], "read")
        for row in range(3):
            cells[1.5 + column, 1.5 + row] = (key[row] * value[column] + 0.0, "product")  # −0 is 0
            cells[7.5 + column, 1.5 + row] = (state[row, column], "product")
    for row in range(3):
        cells[0, 1.5 + row] = (key[row], "key")
        cells[6.25, 1.5 + row] = (asking[row], "query")
    looks = dict(
        key=(theme.BLUE, "#ffffff"), query=(theme.GREEN, "#000000"), value=(theme.ORANGE, "#000000"),
        product=(theme.GRID, theme.INK), read=(theme.ORANGE, "#000000"),
    )  # fmt: skip
    shapes, notes = [], []
    for (x, y), (number, kind) in cells.items():
        fill, ink = looks[kind]
        quiet = number == 0 and kind == "product"
        if kind == "product" and not quiet:
            fill, ink = theme.SKY, "#000000"
        shapes.append(dict(type="rect", x0=x - 0.46, x1=x + 0.46, y0=y - 0.44, y1=y + 0.44, fillcolor=fill,
                           line=dict(color=theme.QUIET, width=1)))  # fmt: skip
        text = _number(number) if quiet else f"<b>{_number(number)}</b>"
        notes.append(dict(x=x, y=y, text=text, showarrow=False, font=dict(size=theme.NORMAL, color=ink)))
    words = [
        (0, -0.05, f"kᵀ of<br>“{WORDS[pairs - 1]}”"), (3, -0.85, "v, a row of 4"), (3, 4.4, "kᵀv, 3 × 4"),
        (6.25, 0.7, "qᵀ"), (9, 0.7, f"S, {pairs} pair{'s' * (pairs > 1)}"), (6.6, 5, "q S ="),
    ]  # fmt: skip
    for x, y, text in words:
        notes.append(dict(x=x, y=y, text=text, showarrow=False, font=dict(size=theme.SMALL), xanchor="center"))
    hidden = dict(showgrid=False, showticklabels=False, ticks="")
    return theme.figure(
        go.Scatter(x=[0], y=[0], mode="markers", marker=dict(opacity=0), hoverinfo="skip"), height=320, shapes=shapes,
        annotations=notes, showlegend=False, meta=dict(narrow={"height": 280}),
        xaxis=dict(range=[-0.8, 11.1], **hidden), yaxis=dict(range=[5.6, -1.2], **hidden),
    )  # fmt: skip


def outer_says(pairs=2, query="cat"):
    """`outer` in a sentence."""
    asking = KEYS[WORDS.index(query)]
    found = token.read(asking, token.write(KEYS[:pairs], VALUES[:pairs]))
    overlaps = asking @ KEYS[:pairs].mT
    parts = [f"{_number(each)} · v of “{word}”" for each, word in zip(overlaps, WORDS, strict=False) if each]
    told = " + ".join(parts) if parts else "nothing: no key that was written overlaps it"
    if parts == [f"1 · v of “{query}”"]:
        told = f"the value of “{query}”, exactly"
    return f"S holds {pairs} pair{'s' * (pairs > 1)}. The key of “{query}” reads {_row(found)}, which is {told}."


HEAD_DIM = 16
PAIRS = range(4)
POSITIONS = range(0, 11)


def _angle(query, key, pair):
    return (query - key) * token.speeds(HEAD_DIM)[pair].item()


def pair_words(pair):
    """A pair of the figure `rotary` and its speed, as its control says it."""
    return f"{pair}, {theme.significant(token.speeds(HEAD_DIM)[pair].item())} radians per token"


def rotary(query=7, key=4, pair=1):
    """Why does a rotary score depend on the distance only? A pair of q and of k, turned by their positions; and the
    score, which is the cosine of the angle between them, over the distance.
    """
    import plotly.graph_objects as go

    speed = token.speeds(HEAD_DIM)[pair].item()
    around = [2 * math.pi * step / 72 for step in range(73)]
    ends = {"q": query * speed, "k": key * speed}
    looks = {"q": (theme.GREEN, "diamond"), "k": (theme.BLUE, "circle")}
    traces = [go.Scatter(x=[math.cos(each) for each in around], y=[math.sin(each) for each in around], mode="lines",
                         line=dict(color=theme.QUIET, width=1), hoverinfo="skip", showlegend=False)]  # fmt: skip
    notes = []
    for name, angle in ends.items():
        colour, symbol = looks[name]
        x, y = math.cos(angle), math.sin(angle)
        traces.append(go.Scatter(
            x=[0, x], y=[0, y], mode="lines+markers", hoverinfo="skip", showlegend=False,
            line=dict(color=colour, width=4), marker=dict(color=colour, symbol=symbol, size=[0, 14], opacity=1),
        ))  # fmt: skip
        notes.append(dict(x=1.24 * x, y=1.24 * y, text=f"<b>{name}</b>", showarrow=False, font=dict(size=theme.LARGE)))
    low, high = sorted(ends.values())
    arc = [low + (high - low) * step / 16 for step in range(17)]
    traces.append(go.Scatter(x=[0.4 * math.cos(each) for each in arc], y=[0.4 * math.sin(each) for each in arc],
                             mode="lines", line=dict(color=theme.VERMILLION, width=4), hoverinfo="skip",
                             showlegend=False))  # fmt: skip
    furthest = POSITIONS[-1]
    distances = [step / 3 for step in range(-3 * furthest, 3 * furthest + 1)]
    score = math.cos(_angle(query, key, pair))
    traces += [
        go.Scatter(x=distances, y=[math.cos(each * speed) for each in distances], mode="lines", xaxis="x2",
                   yaxis="y2", line=dict(color=theme.INK, width=2), hoverinfo="skip", showlegend=False),
        go.Scatter(x=[query - key], y=[score], mode="markers", xaxis="x2", yaxis="y2", showlegend=False,
                   marker=dict(color=theme.VERMILLION, size=14),
                   hovertemplate="distance %{x}: %{y:.3f}<extra></extra>"),
    ]  # fmt: skip
    notes += [
        theme.heading(f"pair {pair}: <b>{theme.significant(speed)}</b> radian per token"),
        theme.heading(f"q · k = cosine of the angle: <b>{_number(round(score, 3))}</b>", "2"),
    ]
    hidden = dict(showgrid=False, showticklabels=False, ticks="")
    return theme.figure(
        *traces, height=360, annotations=notes,
        xaxis=dict(domain=[0, 0.44], range=[-1.45, 1.45], **hidden),
        yaxis=dict(domain=[0, 0.9], range=[-1.45, 1.45], scaleanchor="x", **hidden),
        xaxis2=dict(domain=[0.54, 1], anchor="y2", title=dict(text="position of q − position of k"), dtick=4),
        yaxis2=dict(domain=[0, 0.9], anchor="x2", range=[-1.15, 1.15], tickvals=[-1, 0, 1], title=dict(text="q · k")),
        meta=dict(narrow={
            "height": 620, "xaxis.domain": [0, 1], "yaxis.domain": [0.52, 0.96], "xaxis2.domain": [0, 1],
            "yaxis2.domain": [0, 0.36],
        }),
    )  # fmt: skip


def rotary_says(query=7, key=4, pair=1):
    """`rotary` in a sentence."""
    angle, speed = _angle(query, key, pair), token.speeds(HEAD_DIM)[pair].item()
    away = f"({_number(query - key)})" if query < key else _number(query - key)
    return (
        f"q stands at position {query}, k at {key}: a distance of {_number(query - key)}. The angle between them is "
        f"{away} · {theme.significant(speed)} = {_number(angle)} radians, so q · k is "
        f"{_number(round(math.cos(angle), 3))}; any two positions {_number(query - key)} apart give the same."
    )


BASES = [10_000, 100_000, 500_000]
BASE_NAMES = {
    10_000: "10,000 (the first paper)",
    100_000: "100,000 (SmolLM2-135M)",
    500_000: "500,000 (Llama 3)",
}


def clocks(base=10_000, head_dim=128):
    """How many tokens until a pair has turned once? Over the pairs of a head, beside texts of 8K and 128K tokens."""
    import plotly.graph_objects as go

    rounds = (2 * math.pi / token.speeds(head_dim, float(base))).tolist()
    lines, notes = [], []
    for context in (8192, 131072):
        lines.append(dict(type="line", xref="paper", x0=0, x1=1, y0=context, y1=context,
                          line=dict(color=theme.QUIET, dash="dash")))  # fmt: skip
        notes.append(dict(x=0, xref="paper", xanchor="left", y=math.log10(context), yanchor="bottom", showarrow=False,
                          text=f"{theme.tokens(context)} tokens", font=dict(size=theme.SMALL)))  # fmt: skip
    slow = sum(each > 8192 for each in rounds)
    colours = [theme.ORANGE if each > 8192 else theme.BLUE for each in rounds]
    symbols = ["diamond" if each > 8192 else "circle" for each in rounds]
    key = f"◆ {slow} of {len(rounds)} pairs do not turn once in 8K"
    return theme.figure(
        go.Scatter(x=list(range(len(rounds))), y=rounds, mode="markers",
                   marker=dict(color=colours, symbol=symbols, size=8),
                   hovertemplate="pair %{x}: once in %{y:,.0f} tokens<extra></extra>"),
        height=360, shapes=lines, annotations=[theme.heading(key), *notes], showlegend=False,
        xaxis=dict(title=dict(text="pair, from fast to slow"), dtick=16),
        yaxis=dict(type="log", domain=[0, 0.92], range=[0.5, 6.8], title=dict(text="tokens for one turn"),
                   tickvals=[10, 1000, 1e5], ticktext=["10", "1,000", "100,000"]),
    )  # fmt: skip


def clocks_says(base=10_000, head_dim=128):
    """`clocks` in a sentence."""
    rounds = (2 * math.pi / token.speeds(head_dim, float(base))).tolist()
    slow = sum(each > 8192 for each in rounds)
    return (
        f"With base {base:,} the {len(rounds)} pairs of a head of {head_dim} turn once in "
        f"{theme.significant(rounds[0])} tokens (the fastest) to {theme.significant(rounds[-1])} (the slowest); "
        f"{slow} do not come round in 8K tokens."
    )


KEY_HEADS = [32, 16, 8, 4, 1]
KIND = {32: "MHA", 1: "MQA"}


def sharing_words(key_value_heads):
    """A number of key-value heads, as the control of `heads` says it: 8 (GQA)."""
    return f"{key_value_heads} ({KIND.get(key_value_heads, 'GQA')})"


def heads(key_value_heads=8, model=costs.LLAMA_8B):
    """Which key head does a query head read? All query heads of a layer above, its key-value heads below."""
    import plotly.graph_objects as go

    count, group = model.heads, model.heads // key_value_heads
    owner = [token.key_head_of(head, count, key_value_heads) for head in range(count)]
    place = [(each + 0.5) * group - 0.5 for each in range(key_value_heads)]
    colours = [list(theme.CLASSES.values())[each % 2 * 2] for each in range(key_value_heads)]
    traces = []
    for parity in range(2):
        x, y = [], []
        for head in range(count):
            if owner[head] % 2 == parity:
                x += [head, place[owner[head]], None]
                y += [1, 0, None]
        traces.append(go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", showlegend=False,
                                 line=dict(color=list(theme.CLASSES.values())[parity * 2], width=1.5)))  # fmt: skip
    traces += [
        go.Scatter(x=list(range(count)), y=[1] * count, mode="markers", showlegend=False, customdata=owner,
                   marker=dict(size=9, color=[colours[each] for each in owner]),
                   hovertemplate="query head %{x} reads key head %{customdata}<extra></extra>"),
        go.Scatter(x=place, y=[0] * key_value_heads, mode="markers", showlegend=False,
                   marker=dict(size=13, symbol="square", color=colours, line=dict(color=theme.INK, width=1)),
                   hovertemplate="a key and a value head<extra></extra>"),
    ]  # fmt: skip
    size = costs.cache_bytes(model, 1, key_value_heads=key_value_heads)
    notes = [
        dict(x=0.5, xref="paper", y=1.2, text=f"● {count} query heads", showarrow=False),
        dict(x=0.5, xref="paper", y=-0.25, showarrow=False,
             text=f"■ {key_value_heads} key-value head{'s' * (key_value_heads > 1)}, kept: "
                  f"<b>{costs.format_bytes(size)} per token</b>"),
    ]  # fmt: skip
    hidden = dict(showgrid=False, showticklabels=False, ticks="")
    return theme.figure(
        *traces, height=270, annotations=notes,
        xaxis=dict(range=[-1, count], **hidden), yaxis=dict(range=[-0.45, 1.4], **hidden),
    )  # fmt: skip


def heads_says(key_value_heads=8, model=costs.LLAMA_8B):
    """`heads` in a sentence."""
    group = model.heads // key_value_heads
    size = costs.cache_bytes(model, 1, key_value_heads=key_value_heads)
    name = KIND.get(key_value_heads, "GQA")
    sharing = "each has a key head of its own" if group == 1 else f"groups of {group} read one key head together"
    return (
        f"{name}: {model.heads} query heads, {key_value_heads} key-value head{'s' * (key_value_heads > 1)}; {sharing}. "
        f"A token keeps {costs.format_bytes(size)} in all {model.layers} layers, "
        f"{costs.format_bytes(size * 131072)} for 128K tokens."
    )


LETTERS = ["t", "q", "e", "space"]
TEMPERATURES = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]


def _after(letter, temperature):
    after = token.letters_after(" " if letter == "space" else letter)
    shares = token.tempered(torch.tensor(list(after.values()), dtype=torch.float64), temperature)
    return list(after), shares


def unsure(letter="t", temperature=1.0):
    """How unsure is one of the next letter? What follows a letter in the plays, at a temperature, and its entropy."""
    import plotly.graph_objects as go

    names, shares = _after(letter, temperature)
    nats = token.entropy(shares).item()
    shown = ["␣" if each == " " else each for each in names[:14]]
    notes = [theme.heading(
        f"<b>{theme.significant(nats)} nats</b>, {theme.significant(nats / math.log(2))} bits: as among "
        f"<b>{theme.significant(token.as_unsure_as(nats))}</b> letters"
    )]  # fmt: skip
    return theme.figure(
        go.Bar(x=shown, y=(100 * shares[:14]).tolist(), marker=dict(color=theme.BLUE), width=0.75,
               hovertemplate="%{x}: %{y:.1f} %<extra></extra>"),
        height=320, annotations=notes,
        xaxis=dict(title=dict(text="next letter, the 14 likeliest"), showgrid=False, type="category"),
        yaxis=dict(domain=[0, 0.9], range=[0, 100], tickvals=[0, 50, 100], ticktext=["0", "50 %", "100 %"]),
    )  # fmt: skip


def unsure_says(letter="t", temperature=1.0):
    """`unsure` in a sentence."""
    names, shares = _after(letter, temperature)
    nats = token.entropy(shares).item()
    likeliest = "a space" if names[0] == " " else f"“{names[0]}”"
    before = "a space" if letter == "space" else f"“{letter}”"
    among = theme.significant(token.as_unsure_as(nats))
    return (
        f"After {before}, at temperature {temperature:g}, {likeliest} has {100 * shares[0].item():.0f} %. "
        f"The entropy is {theme.significant(nats)} nats: as unsure as among {among} equally likely "
        f"letter{'s' * (among != '1')}."
    )
