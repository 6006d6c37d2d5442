"""One figure for every way of reading a long cache: quality against bytes, from the rows of any topic.

A row has what "frontier", name, tokens, share (bytes per token over those of dense decoding), kl (nats to dense) and
budget, as `book/measurements/rectified/bench.py` writes it; rows of other measurements may simply be added.
"""

from figures import theme
from figures.measured import looks


def points(rows, tokens):
    """name -> its rows at `tokens` tokens, in order of bytes; ways that read nothing at a budget are left out."""
    found = {}
    for row in rows:
        if row["what"] == "frontier" and row["tokens"] == tokens and "kl" in row and row["share"] < 1:
            found.setdefault(row["name"], []).append(row)
    if not found:
        raise ValueError(f"no frontier row has {tokens} tokens.")
    for name, each in found.items():
        if any(row["kl"] <= 0 for row in each):
            raise ValueError(
                f"{name} is no nearer or further than dense at {tokens} tokens: a logarithm needs a KL above 0."
            )
    return {name: sorted(each, key=lambda row: row["share"]) for name, each in found.items()}


def frontier(rows, tokens):
    """What does a byte buy? KL to dense over the share of bytes read, one line per method; lower left is better."""
    import plotly.graph_objects as go

    groups, traces = points(rows, tokens), []
    for name, colour, dash, symbol in looks(list(groups)):
        traces.append(go.Scatter(
            x=[row["share"] for row in groups[name]], y=[row["kl"] for row in groups[name]], name=name,
            mode="lines+markers", line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=10),
            error_y=dict(type="data", array=[row["kl_error"] for row in groups[name]], thickness=1.5, width=4,
                         color=theme.INK),
            hovertemplate="%{x:.0%} of the bytes: %{y:.2g} nats<extra>" + name + "</extra>",
        ))  # fmt: skip
    ticks = [0.125, 0.1875, 0.25, 0.375, 0.5]
    return theme.figure(
        *traces, height=400, showlegend=True,
        xaxis=dict(type="log", tickvals=ticks, ticktext=[f"{tick:.0%}" for tick in ticks],
                   title=dict(text="bytes per token, over those of dense decoding")),
        yaxis=dict(type="log", title=dict(text="KL to dense, nats"), exponentformat="none", dtick=1),
    )  # fmt: skip


def frontier_says(rows, tokens):
    """`frontier` in a sentence: each way at its fewest and its most bytes."""
    parts = [
        f"{name} from {theme.significant(each[0]['kl'], 2)} nats at {each[0]['share']:.0%} of the bytes to "
        f"{theme.significant(each[-1]['kl'], 2)} at {each[-1]['share']:.0%}"
        for name, each in points(rows, tokens).items()
    ]
    return f"At {theme.tokens(tokens)} tokens: {'; '.join(parts)}."


def at_budget(rows, budget):
    """A table's rows: KL to dense of every way at one budget, one column per length."""
    lengths = sorted({row["tokens"] for row in rows if row["what"] == "frontier"})
    names = dict.fromkeys(row["name"] for row in rows if row["what"] == "frontier" and "budget" in row)
    found = {(row["name"], row["tokens"]): row for row in rows if row.get("budget") == budget and "kl" in row}
    return [
        {"way": name} | {theme.tokens(length): found.get((name, length), {}).get("kl") for length in lengths}
        for name in names
    ]
