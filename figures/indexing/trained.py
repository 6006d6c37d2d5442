"""SmolLM2's layers asked for one list of tokens: how alike their best tokens are, what lists cover, what they cost."""

import functools
from statistics import fmean

from effattn_core.recordings import measured
from figures import theme

RUN = "indexing/smollm2-cpu"
# Name in the recorded rows: words, colour, hatching.
WAYS = {
    "per head": ("each head its own", theme.SKY, ""),
    "per layer": ("each layer its own", theme.BLUE, ""),
    "every 4th layer's": ("every fourth layer's", theme.BLUE, "/"),
    "shared oracle": ("one, mean attention", theme.VERMILLION, ""),
    "taught": ("one, taught indexer", theme.GREEN, "x"),
    "first layer's": ("one, layer 15's", theme.ORANGE, "\\"),
    "newest": ("the newest, the first", theme.PURPLE, "-"),
    "random": ("random, the first", theme.QUIET, "."),
}
# What is measured: title of the axis, the format of a bar's number.
MEASURES = {
    "attention": ("attention covered", "{:.0%}"),
    "attention beyond the first token": ("attention beyond the first token covered", "{:.0%}"),
    "loss": ("nats per token lost", "{:.2f}"),
}
FIELDS = {"attention": "covered", "attention beyond the first token": "beyond"}


def rows(what, **wanted):
    """The recorded rows of one kind, with the fields that are wanted."""
    return measured(RUN, what=what, **wanted)


@functools.cache
def alike():
    """[layers][layers]: share of their best tokens that two layers have in common, the mean over passages."""
    layers = 1 + max(row["layer"] for row in rows("agreement"))
    by_layer = [[row["same"] for row in rows("agreement", layer=layer)] for layer in range(layers)]
    return tuple(tuple(round(fmean(each), 3) for each in zip(*same, strict=True)) for same in by_layer)


def apart(distance):
    """Mean share in common of layers that are `distance` apart."""
    same = alike()
    return fmean(same[layer][layer + distance] for layer in range(len(same) - distance))


@functools.cache
def counts():
    """Tokens of the lists that were tried, in order."""
    return sorted({row["count"] for row in rows("coverage")})


def found(measure, name, count, layers="upper"):
    """What was measured of a list, one number per passage; of "loss", above the loss of reading everything."""
    if measure != "loss":
        covered = rows("coverage", name=name, count=count, layers=layers)
        return [fmean(row[FIELDS[measure]]) for row in covered]
    losses = {(row["name"], row["count"], row["passage"]): row["loss"] for row in rows("loss")}
    passages = sorted({row["passage"] for row in rows("loss")})
    return [
        losses[name, count, each] - losses["dense", None, each] for each in passages if (name, count, each) in losses
    ]


def worst(name, count):
    """What a list holds of the attention of the upper layer that it serves worst, the mean over passages."""
    return fmean(min(row["covered"]) for row in rows("coverage", name=name, count=count, layers="upper"))


def agreement():
    """Do layers look at the same tokens? The share of their best tokens that each two layers have in common."""
    import plotly.graph_objects as go

    same = alike()
    heat = go.Heatmap(
        z=same, zmin=0, zmax=1, colorscale=theme.MAGNITUDE, xgap=1, ygap=1,
        colorbar=dict(title=dict(text="in common", side="right"), tickformat=".0%", thickness=12,
                      tickvals=[0, 0.5, 1]),
        hovertemplate="layers %{x} and %{y}: %{z:.0%}<extra></extra>",
    )  # fmt: skip
    ticks = list(range(0, len(same), 5))
    title = f"neighbours share <b>{apart(1):.0%}</b>, layers 15 apart <b>{apart(15):.0%}</b>"
    return theme.figure(
        heat, height=420, annotations=[theme.heading(title)], margin=dict(t=30, l=8, r=8, b=8),
        xaxis=dict(tickvals=ticks, title=dict(text="layer"), showgrid=False),
        yaxis=dict(tickvals=ticks, title=dict(text="layer"), range=[len(same) - 0.5, -0.5], showgrid=False),
    )  # fmt: skip


def agreement_says():
    """`agreement` in a sentence."""
    row = rows("agreement")[0]
    return (
        f"Of their best {row['count']} tokens, the first left out, neighbouring layers of SmolLM2 have "
        f"{apart(1):.0%} in common, layers five apart {apart(5):.0%}, layers fifteen apart {apart(15):.0%}."
    )


def lists(measure="attention", count=64):
    """What do lists cover, or cost? A bar per way of choosing `count` tokens for the upper half, over the passages."""
    import plotly.graph_objects as go

    title, form = MEASURES[measure]
    there = {name: each for name in WAYS if (each := found(measure, name, count))}
    means = {name: fmean(each) for name, each in there.items()}
    traces = []
    for row, (name, each) in enumerate(there.items()):
        words, colour, shape = WAYS[name]
        spread = dict(type="data", symmetric=False, thickness=1.5, width=5, color=theme.INK,
                      array=[max(each) - means[name]], arrayminus=[means[name] - min(each)])  # fmt: skip
        traces.append(go.Bar(
            x=[means[name]], y=[row], orientation="h", width=0.6, marker=theme.hatched(colour, shape), error_x=spread,
            hovertemplate=f"{words}: {form.format(means[name])}<extra></extra>",
        ))  # fmt: skip
    names = [f"{WAYS[name][0]}: {form.format(mean)}" for name, mean in means.items()]
    across = dict(tickformat=".0%", range=[0, 1.02], tickvals=[0, 0.5, 1]) if measure != "loss" else {}
    return theme.figure(
        *traces, height=380, showlegend=False, margin=dict(t=8, l=8, r=14, b=8),
        yaxis=dict(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], showgrid=False),
        xaxis=dict(title=dict(text=title), **across),
    )  # fmt: skip


def lists_says(measure="attention", count=64):
    """`lists` in a sentence."""
    title, form = MEASURES[measure]
    there = {name: fmean(each) for name in WAYS if (each := found(measure, name, count))}
    parts = "; ".join(f"{WAYS[name][0]} {form.format(mean)}" for name, mean in there.items())
    return f"Lists of {count} tokens for SmolLM2's upper half, {title}: {parts}."
