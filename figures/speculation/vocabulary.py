"""Figures of a drafter's vocabulary: coverage, words per cycle, time of a cycle and speed over the words it may use."""

import functools
import math

from effattn_core.recordings import measured
from effattn_core.speculation.costs import line
from figures import theme

HEADS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the published time of a drafter's head per word
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
PANELS = ("coverage", "words per cycle", "time per cycle", "words per second")


def ours(text="plays"):
    """The recorded rows of this book's trained drafter on one text, greedy, as `trade` takes them: smallest first.

    The coverage is that of held-out plays by the words most frequent in all three training texts.
    """
    covered = {
        row["kept"]: row["share"]
        for row in measured("speculation/training-cpu", what="coverage", list="all three", text="plays, held out")
    }
    rows = [
        dict(kept=row["kept"], length=row["per_cycle"], speed=row["words_per_second"])
        | ({"coverage": covered[row["kept"]]} if row["kept"] in covered else {})
        for row in measured("speculation/cpu", what="speed", text=text, temperature=0.0)
        if row["way"].startswith("trained head, chain")
    ]
    return sorted(rows, key=lambda row: row["kept"])


def share_words(share):
    """A share of the vocabulary, in words."""
    return "all words" if share == 1 else f"1 word in {round(1 / share)}"


def _length_at(rows, kept):
    """Words per cycle at any size, between the rows on the scale of its logarithm."""
    rows = sorted(rows, key=lambda row: row["kept"])
    for low, high in zip(rows, rows[1:], strict=False):
        if kept <= high["kept"]:
            part = math.log(kept / low["kept"]) / math.log(high["kept"] / low["kept"])
            return low["length"] + part * (high["length"] - low["length"])
    return rows[-1]["length"]


def modelled(rows, kept, head=1.0):
    """(words per cycle, seconds per cycle, words per second) of `rows` at any size, its head `head` times as dear."""
    fixed, slope = line(rows)
    length, cycle = _length_at(rows, kept), fixed + head * slope * kept
    return length, cycle, length / cycle


def optimum(rows, head=1.0):
    """The share of the vocabulary with most words per second, by `modelled`, on a fine scale."""
    whole = max(row["kept"] for row in rows)
    least = min(row["kept"] for row in rows) / whole
    shares = [least ** (1 - step / 200) for step in range(201)]
    return max(shares, key=lambda share: modelled(rows, share * whole, head)[2])


@functools.cache
def _panels():
    """Plotly's domains of the four panels, two by two."""
    across, up = ([0, 0.42], [0.58, 1]), ([0.6, 1], [0.08, 0.42])
    return [(x, y) for y in up for x in across]


def trade(sources, share=0.25, head=1.0):
    """What does a cut vocabulary cost and save? Four panels over the share of the words that a drafter may propose.

    sources: (the published rows, ours), lists of dicts with kept, length and speed, and coverage where it is known;
    each is drawn over its own value at the whole vocabulary. head: times the published time of the head per word; the
    lines are the model of the published rows with such a head.
    """
    import plotly.graph_objects as go

    names = ("published: Llama 3 8B, A800", "here: SmolLM2, two threads of a CPU")
    looks = ((theme.VERMILLION, "circle"), (theme.BLUE, "square"))
    published = sources[0]
    whole = max(row["kept"] for row in published)
    base = modelled(published, whole, head)
    best = optimum(published, head)
    least = min(row["kept"] for row in published) / whole
    fewest = min(row["kept"] / max(each["kept"] for each in rows) for rows in sources for row in rows)
    fine = [least ** (1 - step / 40) for step in range(41)]
    traces, notes, shapes, axes = [], [], [], {}
    for panel, (name, (across, up)) in enumerate(zip(PANELS, _panels(), strict=True)):
        number = str(panel + 1) if panel else ""
        on = dict(xaxis=f"x{number}", yaxis=f"y{number}")
        if panel:
            curve = [modelled(published, each * whole, head)[panel - 1] / base[panel - 1] for each in fine]
            traces.append(go.Scatter(x=fine, y=curve, mode="lines", name=f"model, head × {head:g}", hoverinfo="skip",
                                     showlegend=panel == 1, line=dict(color=theme.INK, width=2), **on))  # fmt: skip
        for rows, title, (colour, symbol) in zip(sources, names, looks, strict=True):
            points = _points(rows, panel)
            traces.append(go.Scatter(
                x=[x for x, _ in points], y=[y for _, y in points], mode="markers", name=title, **on,
                showlegend=panel == 1, marker=dict(color=colour, symbol=symbol, size=9),
                hovertemplate="%{x:.1%} of the words: %{y:.0%}",
            ))  # fmt: skip
        shapes.append(dict(type="line", xref=on["xaxis"], yref=f"{on['yaxis']} domain", x0=share, x1=share, y0=0, y1=1,
                           line=dict(color=theme.INK, width=1, dash="dot")))  # fmt: skip
        notes.append(theme.heading(f"<b>{name}</b>", number))
        axes[f"xaxis{number}"] = dict(
            type="log", domain=across, anchor=on["yaxis"], range=[math.log10(0.8 * fewest), math.log10(1.25)],
            tickvals=[1 / 256, 1 / 64, 1 / 16, 1 / 4, 1], ticktext=["1/256", "1/64", "1/16", "1/4", "all"],
        )  # fmt: skip
        low, high = _range(sources, panel)
        axes[f"yaxis{number}"] = dict(domain=up, anchor=on["xaxis"], range=[low, high], tickformat=".0%", nticks=5)
    chosen = modelled(published, share * whole, head)[2] / base[2]
    text = f"<b>{chosen - 1:+.0%}</b> at the dotted line; best at <b>{best:.0%}</b>"
    notes.append(dict(theme.heading(text), yshift=26))
    return theme.figure(
        *traces, height=470, showlegend=True, shapes=shapes, annotations=notes, legend=dict(y=-0.02, yanchor="top"),
        margin=dict(l=8, r=8, t=54, b=8), **axes,
    )  # fmt: skip


def _points(rows, panel):
    """(share of the words kept, value over that of all words) of each row; coverage as it is."""
    whole = max(rows, key=lambda row: row["kept"])
    pick = {
        0: lambda row: row.get("coverage"),
        1: lambda row: row["length"] / whole["length"],
        2: lambda row: row["length"] / row["speed"] / (whole["length"] / whole["speed"]),
        3: lambda row: row["speed"] / whole["speed"],
    }[panel]
    made = [(row["kept"] / whole["kept"], pick(row)) for row in sorted(rows, key=lambda row: row["kept"])]
    return [point for point in made if point[1] is not None]


def _range(sources, panel):
    """A range that holds every point, and the model with the dearest and the cheapest head."""
    values = [value for rows in sources for _, value in _points(rows, panel)]
    if panel:
        published, whole = sources[0], max(row["kept"] for row in sources[0])
        for head in HEADS:
            base = modelled(published, whole, head)[panel - 1]
            values += [modelled(published, row["kept"], head)[panel - 1] / base for row in published]
    room = 0.06 * (max(values) - min(values) + 0.05)
    return round(min(values) - room, 3), round(max(values) + room, 3)


def trade_says(sources, share=0.25, head=1.0):
    """`trade` in a sentence."""
    published = sources[0]
    whole = max(row["kept"] for row in published)
    length, cycle, speed = (
        ours / theirs
        for ours, theirs in zip(modelled(published, share * whole, head), modelled(published, whole, head), strict=True)
    )
    return (
        f"With {share_words(share)} and a head {head:g} times as dear as published, the model of the published table "
        f"gives {length:.0%} of the words per cycle in {cycle:.0%} of the time: {speed:.0%} of the speed with all "
        f"words; the best is to keep {optimum(published, head):.0%}."
    )
