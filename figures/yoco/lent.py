"""Layers of a trained model that read each other's caches: how alike their keys are, and what borrowing costs.

Rows are those of `book/measurements/yoco/run_smollm2.py`; layers count from 0.
"""

from statistics import fmean, median

from figures import theme

PARTS, APART = ("keys", "values"), (1, 2, 4, 8, 16)
EVERY_SECOND = "every second"


def alike(rows, of="keys", apart=1):
    """layer -> its likeness (linear CKA) to the layer `apart` before it, one number per passage; of: keys or values.

    Raises ValueError where no row has so many layers before it.
    """
    found = {}
    for row in rows:
        if row["what"] == "likeness" and row["layer"] >= apart:
            found.setdefault(row["layer"], []).append(row[of][row["layer"] - apart])
    if not found:
        raise ValueError(f"likeness {apart} layers apart needs a row of layer {apart} or later; there is none.")
    return found


def costs(rows):
    """layer -> nats per token that are lost where it reads the cache of the layer before it, one number per passage.

    The layer EVERY_SECOND is that of every second layer at once.
    """
    lent = [row for row in rows if row["what"] == "lent"]
    base = {row["passage"]: row["loss"] for row in lent if row["layer"] is None}
    found = {}
    for row in lent:
        if row["layer"] is not None:
            found.setdefault(row["layer"], []).append(row["loss"] - base[row["passage"]])
    return found


def _means(found):
    return {layer: fmean(each) for layer, each in found.items() if layer != EVERY_SECOND}


def lending(rows, of="keys", apart=1):
    """Are layers alike, and can one read another's cache? Likeness above, the cost of borrowing below, by layer.

    Means over passages; bars reach from the smallest to the largest.
    """
    import plotly.graph_objects as go

    panels = (alike(rows, of, apart), theme.BLUE, "circle", "x", "y", "likeness %{y:.2f}"), (
        costs(rows), theme.VERMILLION, "diamond", "x2", "y2", "%{y:.2g} nats per token more")  # fmt: skip
    traces = []
    for found, colour, symbol, across, up, words in panels:
        means = _means(found)
        traces.append(go.Scatter(
            x=list(means), y=list(means.values()), mode="markers", xaxis=across, yaxis=up, showlegend=False,
            marker=dict(color=colour, symbol=symbol, size=8),
            error_y=dict(type="data", symmetric=False, thickness=1.5, width=4, color=theme.INK,
                         array=[max(found[layer]) - mean for layer, mean in means.items()],
                         arrayminus=[mean - min(found[layer]) for layer, mean in means.items()]),
            hovertemplate="layer %{x}: " + words + "<extra></extra>",
        ))  # fmt: skip
    last = max(_means(costs(rows)))
    axis = dict(range=[-0.7, last + 0.7], tickvals=list(range(0, last + 1, 5)))
    ticks = [0.03, 0.1, 0.3, 1, 3]
    return theme.figure(
        *traces, height=460,
        annotations=[
            theme.heading(f"<b>Likeness</b> of {of} to those {_apart(apart)} before"),
            theme.heading("<b>Cost</b> of reading the cache of the layer before", "2"),
        ],
        margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(anchor="y", showticklabels=False, **axis),
        xaxis2=dict(anchor="y2", title=dict(text="layer"), **axis),
        yaxis=dict(domain=[0.57, 1], range=[0, 1.03], tickvals=[0, 0.25, 0.5, 0.75, 1], title=dict(text="CKA")),
        yaxis2=dict(domain=[0, 0.43], type="log", range=[-1.7, 0.7], tickvals=ticks, ticktext=[f"{t:g}" for t in ticks],
                    title=dict(text="nats per token")),
    )  # fmt: skip


def _apart(apart):
    return "one layer" if apart == 1 else f"{apart} layers"


def lending_says(rows, of="keys", apart=1):
    """`lending` in a sentence: the means and ends of both panels."""
    likeness, cost = _means(alike(rows, of, apart)), _means(costs(rows))
    least, most = (edge(likeness, key=likeness.get) for edge in (min, max))
    cheap, dear = (edge(cost, key=cost.get) for edge in (min, max))
    return (
        f"Likeness of {of} to those {_apart(apart)} before: {fmean(likeness.values()):.2f} on average, from "
        f"{likeness[least]:.2f} in layer {least} to {likeness[most]:.2f} in layer {most}. A layer that reads the cache "
        f"of the one before costs from {theme.significant(cost[cheap], 2)} nats per token, layer {cheap}, to "
        f"{theme.significant(cost[dear], 2)}, layer {dear}; half of them less than "
        f"{theme.significant(median(cost.values()), 2)}."
    )
