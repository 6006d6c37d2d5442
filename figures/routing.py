"""Figures of routing: prices that level the loads, who reads the future, rows of padding, losses by mode."""

import functools

import torch

from effattn_core import routing
from effattn_core.routing import costs as costs_routing
from effattn_core.routing import future
from effattn_core.routing.interface import CHOICES
from figures import theme

TOKENS, EXPERTS, TOP_K = 60, 4, 2
CAPACITY = TOKENS * TOP_K // EXPERTS
ROUNDS, SKEWS = tuple(range(9)), (0.0, 1.0, 2.0, 3.0)
SEEN = ("top_k", "gshard", "expert_choice", "maxscore_released", "maxscore_reroute", "prices", "past_prices",
        "optimum")  # fmt: skip
CHANGED = (0, 4, 8, 12)
FACTORS, TILES, COUNTS = (1.0, 1.25, 1.5, 2.0), (16, 64, 128), (8, 16, 64)
ROWS = 2048  # choices of the padding bill
NAMES = {
    "top_k": "top-k, no capacity", "switch": "Switch, one choice", "gshard": "GShard",
    "expert_choice": "expert choice", "base": "BASE, one choice", "sinkhorn": "Sinkhorn",
    "sinkhorn_repaired": "Sinkhorn, rounded", "bias": "loss-free bias", "past_prices": "prices of the past",
    "prices": "prices of this batch", "maxscore_released": "MaxScore, released",
    "maxscore_reroute": "MaxScore, rerouting", "optimum": "the optimum",
}  # fmt: skip


@functools.cache
def _values(skew):
    """The values of the running example, [tokens, experts]: a column's attraction is fixed, `skew` scales it."""
    column = torch.tensor([1.2, 0.3, -0.5, -1.0], dtype=torch.float64)
    return future.skewed(TOKENS, EXPERTS, 0.0, torch.Generator().manual_seed(2), skew * column).softmax(1)


@functools.cache
def _optimum(skew):
    return routing.optimum(_values(skew), TOP_K, CAPACITY).value


@functools.cache
def _prices(skew, rounds):
    return routing.quantile_prices(_values(skew), TOP_K, CAPACITY, rounds=rounds)


@functools.cache
def _after(skew, rounds):
    """(loads of top-k at these prices, dual bound, value of the rounded assignment), the last two over the optimum."""
    values, prices = _values(skew), _prices(skew, rounds)
    load = routing.priced(values, prices, TOP_K).sum(0).tolist()
    mask = routing.rounded(values, prices, TOP_K, CAPACITY)
    best = _optimum(skew)
    bound = routing.dual(values, prices, TOP_K, CAPACITY) / best
    return load, bound, routing.value_of(values, mask) / best


def prices(skew=2.0, rounds=0):
    """How do prices level the loads? Loads at these prices and without them; bound and value closing on the optimum."""
    import plotly.graph_objects as go

    load, _, _ = _after(skew, rounds)
    path = [_after(skew, each) for each in ROUNDS]
    names = [f"{number + 1}" for number in range(EXPERTS)]
    lines = dict(xaxis="x2", yaxis="y2", mode="lines+markers")
    hollow = dict(color="rgba(0,0,0,0)", line=dict(color=theme.INK, width=1.5))
    told = "expert %{x}: %{y} tokens<extra></extra>"
    traces = [
        go.Bar(x=names, y=load, width=0.6, marker=dict(color=theme.BLUE), name="tokens at these prices",
               hovertemplate=told),
        go.Bar(x=names, y=path[0][0], width=0.6, marker=hollow, name="without prices", hovertemplate=told),
        go.Scatter(x=list(ROUNDS), y=[each[1] for each in path], name="bound by the prices", **lines,
                   line=dict(color=theme.VERMILLION, dash="dot", width=2), marker=dict(symbol="diamond", size=7)),
        go.Scatter(x=list(ROUNDS), y=[each[2] for each in path], name="value after rounding", **lines,
                   line=dict(color=theme.GREEN, width=2), marker=dict(symbol="circle", size=7)),
    ]  # fmt: skip
    labels = [
        dict(text=f"price {price:.2f}", x=name, y=max(now, was), yanchor="bottom", showarrow=False,
             font=dict(size=theme.SMALL))
        for name, price, now, was in zip(names, _prices(skew, rounds), load, path[0][0], strict=True)
    ]  # fmt: skip
    _, bound, value = path[rounds]
    title = f"<b>fullest expert: {max(load)} tokens for {CAPACITY} places</b>"
    gap = f"<b>gap at most {1 - value / bound:.2%}</b>"
    narrow = {
        f"annotations.{place + 2}.text": label["text"].removeprefix("price ") for place, label in enumerate(labels)
    }
    narrow |= {
        "annotations.0.text": f"<b>fullest {max(load)} for {CAPACITY}</b>",
        "annotations.1.text": f"<b>gap {1 - value / bound:.2%}</b>",
    }
    shapes = [
        dict(
            type="line", xref="x domain", x0=0, x1=1, y0=CAPACITY, y1=CAPACITY, line=dict(color=theme.INK, dash="dash")
        ),
        dict(type="line", xref="x2", yref="y2 domain", x0=rounds, x1=rounds, y0=0, y1=1, line=dict(color=theme.QUIET)),
    ]
    top = max(each[1] for each in path)
    return theme.figure(
        *traces, height=440, shapes=shapes, showlegend=True, barmode="overlay", meta=dict(narrow=narrow),
        annotations=[theme.heading(title), theme.heading(gap, "2"), *labels],
        legend=dict(y=-0.2, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(domain=[0, 0.52], title=dict(text="expert"), showgrid=False),
        yaxis=dict(range=[0, TOKENS * 1.05], title=dict(text="tokens (dashed: places)")),
        xaxis2=dict(domain=[0.68, 1], anchor="y2", title=dict(text="rounds"), tickvals=list(ROUNDS[::2])),
        yaxis2=dict(anchor="x2", range=[min(0.98, *(each[2] for each in path)) - 0.01, top + 0.01],
                    title=dict(text="over the optimum")),
    )  # fmt: skip


def prices_says(skew=2.0, rounds=0):
    """`prices` in a sentence."""
    load, bound, value = _after(skew, rounds)
    asked = ", ".join(f"{price:.2f}" for price in _prices(skew, rounds))
    return (
        f"With skew {skew:g}, after {rounds} round{'s' * (rounds != 1)} prices are {asked} and the experts' loads "
        f"{', '.join(map(str, load))}, for {CAPACITY} places each; rounded to the capacity, the value is {value:.4f} "
        f"of the optimum and certified to lie within {1 - value / bound:.2%} of it."
    )


@functools.cache
def _masks(router, changed):
    """The masks of the first 24 scores and of those with the last `changed` drawn anew."""
    generator = torch.Generator().manual_seed(5)
    scores = future.skewed(24, EXPERTS, 1.0, generator)
    other = scores.clone()
    if changed:
        other[-changed:] = future.skewed(changed, EXPERTS, 0.0, generator, scores.mean(0).flip(0))
    top_k = CHOICES.get(router, TOP_K)
    return [routing.route(each, router=router, top_k=top_k).mask for each in (scores, other)]


def _moved(router, changed):
    """(earlier tokens whose experts changed, earlier tokens)."""
    first, second = _masks(router, changed)
    kept = len(first) - changed
    return int((first[:kept] != second[:kept]).any(1).sum()), kept


def reads(router="expert_choice", changed=8):
    """Who reads the future? Tokens by experts; the last tokens are redrawn, and earlier ones that moved light up."""
    import plotly.graph_objects as go

    first, second = _masks(router, changed)
    moved, kept = _moved(router, changed)
    groups = {
        "same expert as before": (theme.BLUE, "square", lambda i, e: first[i, e] and second[i, e] and i < kept),
        "lost": (theme.VERMILLION, "x", lambda i, e: first[i, e] and not second[i, e] and i < kept),
        "won": (theme.ORANGE, "star", lambda i, e: second[i, e] and not first[i, e] and i < kept),
        "redrawn": (theme.QUIET, "circle-open", lambda i, e: second[i, e] and i >= kept),
    }
    places = [(i, e) for i in range(len(first)) for e in range(EXPERTS)]
    traces = []
    for name, (colour, symbol, there) in groups.items():
        chosen = [place for place in places if there(*place)]
        traces.append(
            go.Scatter(x=[i + 1 for i, _ in chosen], y=[e + 1 for _, e in chosen], mode="markers", name=name,
                       marker=dict(color=colour, symbol=symbol, size=12),
                       hovertemplate="token %{x}, expert %{y}<extra>" + name + "</extra>")
        )  # fmt: skip
    title = f"<b>{moved} of {kept} earlier tokens changed</b> by what came after them"
    edge = dict(
        type="line", x0=kept + 0.5, x1=kept + 0.5, y0=0.4, y1=EXPERTS + 0.6, line=dict(color=theme.INK, dash="dash")
    )
    return theme.figure(
        *traces, height=330, shapes=[edge], annotations=[theme.heading(title)], showlegend=True,
        legend=dict(y=-0.25, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(range=[0.3, len(first) + 0.7], title=dict(text="token"), showgrid=False),
        yaxis=dict(range=[0.4, EXPERTS + 0.6], tickvals=list(range(1, EXPERTS + 1)), title=dict(text="expert")),
    )  # fmt: skip


def reads_says(router="expert_choice", changed=8):
    """`reads` in a sentence."""
    moved, kept = _moved(router, changed)
    return (
        f"{NAMES[router]}: with the last {changed} of {kept + changed} tokens drawn anew, "
        f"{moved} of {kept} before change."
    )


@functools.cache
def _load(experts):
    """Loads of ROWS choices at a moderate skew, one list for each number of experts."""
    scores = future.skewed(ROWS // TOP_K, experts, 0.7, torch.Generator().manual_seed(1))
    return tuple(routing.route(scores, router="top_k", top_k=TOP_K).load.tolist())


def _padded(experts, block_row, factor):
    """(rows of buffers, choices that they drop, rows of tiles)."""
    load = _load(experts)
    buffers, dropped = costs_routing.capacity_rows(load, routing.capacity_of(ROWS // TOP_K, experts, TOP_K, factor))
    return buffers, dropped, costs_routing.tile_rows(load, block_row)


def padding(experts=64, block_row=64, factor=1.0):
    """What does padding cost? Rows asked for, computed by buffers and by tiles, and dropped."""
    import plotly.graph_objects as go

    buffers, dropped, tiled = _padded(experts, block_row, factor)
    names = ["asked for", "buffers", "tiles"]
    useful, empty = [ROWS, ROWS - dropped, ROWS], [0, buffers - ROWS + dropped, tiled - ROWS]
    bar = dict(orientation="h", y=names, width=0.6)
    hatch = dict(color=theme.ORANGE, pattern=dict(shape="/", solidity=0.3))
    hollow = dict(color="rgba(0,0,0,0)", line=dict(color=theme.VERMILLION, width=2))
    traces = [
        go.Bar(x=useful, name="rows of a token", marker=dict(color=theme.BLUE), **bar),
        go.Bar(x=empty, name="padding", marker=hatch, **bar),
        go.Bar(x=[None, dropped or None, None], name="dropped", marker=hollow, **bar),
    ]
    title = f"<b>tiles compute {tiled / ROWS:.2f} times the rows</b>, buffers {buffers / ROWS:.2f}"
    short = f"<b>tiles {tiled / ROWS:.2f}×</b>, buffers {buffers / ROWS:.2f}×"
    return theme.figure(
        *traces, height=300, barmode="stack", annotations=[theme.heading(title)], showlegend=True,
        meta=dict(narrow={"annotations.0.text": short}),
        legend=dict(y=-0.3, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(range=[0, 4.6 * ROWS], title=dict(text="rows")), yaxis=dict(autorange="reversed", showgrid=False),
    )  # fmt: skip


def padding_says(experts=64, block_row=64, factor=1.0):
    """`padding` in a sentence."""
    buffers, dropped, tiled = _padded(experts, block_row, factor)
    return (
        f"{ROWS} choices over {experts} experts: tiles of {block_row} compute {tiled} rows and drop none, buffers of "
        f"{factor:g} times an equal share compute {buffers} and drop {dropped}."
    )


MARKS = {"trained": (theme.VERMILLION, "diamond", "as trained"), "decoding": (theme.BLUE, "circle", "as it decodes")}


def modes(rows, best=None, title="held-out loss, nats per letter"):
    """Which losses are those of a model that decodes? Each seed's loss as trained and as it decodes, router by router.

    rows: dicts with name, seed, trained, decoding. best: of any model that sees the past alone, drawn as a line.
    """
    import plotly.graph_objects as go

    names = list(dict.fromkeys(row["name"] for row in rows))
    traces = [
        go.Scatter(
            x=[row[mode] for row in rows], y=[names.index(row["name"]) + shift for row in rows], mode="markers",
            name=said, marker=dict(color=colour, symbol=symbol, size=10, opacity=0.85),
            customdata=[f"{row['name']}, seed {row['seed']}" for row in rows],
            hovertemplate="%{customdata}: %{x:.3f}<extra>" + said + "</extra>",
        )
        for shift, (mode, (colour, symbol, said)) in zip((-0.14, 0.14), MARKS.items(), strict=True)
    ]  # fmt: skip
    shapes, notes = [], []
    if best is not None:
        shapes.append(dict(type="line", x0=best, x1=best, yref="y domain", y0=0, y1=1,
                           line=dict(color=theme.INK, width=2, dash="dash")))  # fmt: skip
        middle = (min(min(trace.x) for trace in traces) + max(max(trace.x) for trace in traces)) / 2
        notes.append(dict(text=f"<b>{best:.3f}</b>: best without the future", x=best, y=1, yref="y domain",
                          xanchor="left" if best < middle else "right", yanchor="bottom", yshift=4,
                          showarrow=False))  # fmt: skip
    narrow = {"annotations.0.text": f"<b>{best:.3f}</b>: without future"} if notes else {}
    return theme.figure(
        *traces, height=120 + 46 * len(names), shapes=shapes, annotations=notes, showlegend=True,
        meta=dict(narrow=narrow),
        margin=dict(l=8, r=8, t=30, b=8), legend=dict(y=-60 / (46 * len(names)), yanchor="top"),
        xaxis=dict(title=dict(text=title)),
        yaxis=dict(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], showgrid=False),
    )  # fmt: skip


def modes_says(rows, best=None, title="held-out loss, nats per letter"):
    """`modes` in a sentence: the means of both, router by router."""
    parts = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        trained, decoding = (sum(row[mode] for row in mine) / len(mine) for mode in MARKS)
        parts.append(f"{name} {trained:.3f} as trained, {decoding:.3f} as it decodes")
    line = "" if best is None else f" Without the future nothing is below {best:.3f}."
    return f"{title[:1].upper()}{title[1:]}, means over seeds: {'; '.join(parts)}.{line}"
