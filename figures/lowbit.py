"""Figures of low-bit states: levels over real second moments, averages that freeze, noise and momentum, memory."""

import functools
import math

import torch

from effattn_core.lowbit import costs, levels, logarithmic_levels, theory
from effattn_core.lowbit.quantisers import FLOOR, QUANTILE
from effattn_core.recordings import measured
from figures import theme

BITS = (2, 3, 4)
KINDS = {"exponent": "exponent map", "linear": "linear, no zero", "logarithmic": "logarithmic"}
TENSORS = {
    "blocks.1.feed_forward.down.weight": "feed-forward",
    "blocks.0.mixer.query.weight": "queries",
    "embedding.weight": "embedding",
    "head.weight": "head",
}
DECADES, PER_DECADE = 4, 4  # what the number line shows of a block, and its bars
FROZEN_BITS, BETAS = (2, 4), (0.8, 0.84, 0.94, 0.97, 0.99)
ROUNDINGS = {
    "nearest": ("linear_zero", False, "nearest of equal levels"),
    "dice": ("linear_zero", True, "dice, equal levels"),
    "logarithm": ("logarithmic", True, "dice, logarithmic levels"),
}
STEPS, ELEMENTS = 100, 1000
CHOSEN = (0.5, 0.8, 0.9, 0.95)
CURVE = tuple(each / 100 for each in range(2, 99))  # β of the curves of noise
BEFORE, KEPT = 8, 0.9  # what fewer bits are held against
MODELS = {each.name: each for each in costs.MODELS}
PRECISIONS = {"bfloat16": 2, "float32": 4}
CARD = 80e9  # bytes of one accelerator, drawn as a mark


# ---- levels over a block of real second moments ----


@functools.cache
def _block(tensor):
    """The recorded second moments of one block of 128, over the largest of them: float32 [128], descending."""
    row = next(
        row for row in measured("lowbit/training-cpu", what="block") if row["tensor"] == tensor and max(row["v"]) > 0
    )
    v = torch.tensor(row["v"])
    return (v / v.max()).sort(descending=True).values


def _offered(share, bits, kind):
    """The levels that a block is offered, ascending, float64."""
    if kind != "logarithmic":
        return levels(kind, bits, signed=False)
    lowest = max(share.quantile(QUANTILE).item(), FLOOR)
    return logarithmic_levels(math.log2(lowest) / (2**bits - 1), bits).flip(0)


@functools.cache
def stored(tensor, bits, kind):
    """(shares of a block, levels offered, shares as stored): the logarithm's without dice, at its nearest level."""
    share = _block(tensor).double()
    offered = _offered(_block(tensor), bits, kind)
    known = offered.log2() if kind == "logarithmic" else offered
    value = share.clamp_min(FLOOR).log2() if kind == "logarithmic" else share
    code = torch.bucketize(value, (known[1:] + known[:-1]) / 2, right=True)
    return share, offered, offered[code]


def _judged(tensor, bits, kind):
    """(elements stored as 0, largest factor by which another is stored too small or too large)."""
    share, _, kept = stored(tensor, bits, kind)
    live = (kept > 0) & (share > 0)
    factor = (kept[live] / share[live]).log2().abs().max().exp2().item()
    return int(((kept == 0) & (share > 0)).sum()), factor


def levels_over(bits=2, kind="exponent", tensor="blocks.1.feed_forward.down.weight"):
    """What do few bits offer a real second moment? A block's histogram on a number line of powers, and the levels."""
    import plotly.graph_objects as go

    share, offered, _ = stored(tensor, bits, kind)
    place = (
        ((share.clamp_min(10.0**-DECADES).log10() + DECADES) * PER_DECADE).floor().clamp_max(DECADES * PER_DECADE - 1)
    )
    counts = place.long().bincount(minlength=DECADES * PER_DECADE).tolist()
    width = 1 / PER_DECADE
    edges = [-DECADES + width * number for number in range(DECADES * PER_DECADE)]
    top = 1.25 * max(counts)
    shown = [math.log10(level) for level in offered.tolist() if level >= 10.0**-DECADES]
    zeros, factor = _judged(tensor, bits, kind)
    traces = [
        go.Bar(x=[edge + width / 2 for edge in edges], y=counts, width=width * 0.92, name="elements of the block",
               marker=dict(color=theme.SKY), hovertemplate="%{y} elements<extra></extra>"),
        go.Scatter(x=shown, y=[top * 0.96] * len(shown), mode="markers", name="levels",
                   marker=dict(symbol="triangle-down", size=12, color=theme.VERMILLION),
                   hovertemplate="level 10^%{x:.2f}<extra></extra>"),
    ]  # fmt: skip
    lines = [dict(type="line", x0=x, x1=x, y0=0, y1=top * 0.96, line=dict(color=theme.VERMILLION, width=2))
             for x in shown]  # fmt: skip
    off = len(offered) - len(shown)
    where = ("one level is 0, off to the left" if offered[0] == 0 else "none below") if off else "no level is 0"
    return theme.figure(
        *traces, height=380, shapes=lines, showlegend=True, bargap=0,
        annotations=[
            theme.heading(f"<b>stored as 0: {zeros} of {len(share)}</b>"),
            theme.heading(where, side="right"),
        ],
        meta=dict(narrow={"annotations.1.text": "0 is a level" if offered[0] == 0 else "no 0"}),
        legend=dict(y=-0.22, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(title=dict(text="second moment over the block's largest"), range=[-DECADES, 0.1],
                   tickvals=list(range(-DECADES, 1)), ticktext=["1/10,000", "1/1,000", "1/100", "1/10", "1"]),
        yaxis=dict(title=dict(text="elements"), range=[0, top * 1.02]),
    )  # fmt: skip


def levels_says(bits=2, kind="exponent", tensor="blocks.1.feed_forward.down.weight"):
    """`levels_over` in a sentence."""
    share, _, _ = stored(tensor, bits, kind)
    zeros, factor = _judged(tensor, bits, kind)
    zero = f"stores {zeros} of {len(share)} as 0" if zeros else "stores none as 0"
    return (
        f"With {bits} bits, {KINDS[kind]} {zero} in a block of the {TENSORS[tensor]}, whose second moments span a "
        f"factor of {theme.significant((share[0] / share[share > 0][-1]).item(), 2)}; the others are kept within a "
        f"factor of {theme.significant(factor, 2)}."
    )


# ---- averages that freeze ----


@functools.cache
def _averages(bits, beta, rounding):
    kind, stochastic, _ = ROUNDINGS.get(rounding, ("linear_zero", False, ""))
    return theory.averaged(kind, bits, beta, steps=STEPS, elements=ELEMENTS, stochastic=stochastic)


def swamping(bits=2, beta=0.8, rounding="nearest"):
    """Does a stored average follow its signals? A thousand of them, their mean over the steps, beside float32."""
    import plotly.graph_objects as go

    steps = list(range(1, STEPS + 1))
    kept, whole = _averages(bits, beta, rounding), _averages(None, beta, "none")
    threshold = theory.freezing_threshold("linear_zero", bits)
    line = dict(mode="lines", hovertemplate="step %{x}: %{y:.3f}<extra></extra>")
    traces = [
        go.Scatter(x=steps, y=whole, name="not rounded", line=dict(color=theme.INK, width=2, dash="dash"), **line),
        go.Scatter(x=steps, y=kept, name="stored", line=dict(color=theme.BLUE, width=3), **line),
    ]
    frozen = rounding == "nearest" and beta >= threshold
    told = "frozen" if frozen else f"ends at {kept[-1]:.2f}"
    return theme.figure(
        *traces, height=360, showlegend=True, margin=dict(l=8, r=8, t=30, b=8), legend=dict(y=-0.22, yanchor="top"),
        annotations=[
            theme.heading(f"<b>stored mean: {told}</b>"),
            theme.heading(f"nearest freezes from beta {threshold:.3f}", side="right"),
        ],
        meta=dict(narrow={"annotations.1.text": f"freezes from {threshold:.3f}"}),
        xaxis=dict(title=dict(text="step"), range=[0, STEPS]),
        yaxis=dict(title=dict(text="mean of the averages"), range=[0.4, 1.04]),
    )  # fmt: skip


def swamping_says(bits=2, beta=0.8, rounding="nearest"):
    """`swamping` in a sentence."""
    kept, whole = _averages(bits, beta, rounding), _averages(None, beta, "none")
    return (
        f"With {bits} bits, beta {beta:g} and {ROUNDINGS[rounding][2]} the stored averages end at a mean of "
        f"{kept[-1]:.3f}, those not rounded at {whole[-1]:.3f}, on the way to a half; nearest rounding freezes from "
        f"beta {theory.freezing_threshold('linear_zero', bits):.4f} on."
    )


# ---- noise and momentum ----


def variance(bits=2, beta=0.9):
    """How much noise does rounding m add? The factor over β, by bits, and where it is that of eight bits at 0.9."""
    import plotly.graph_objects as go

    colours = dict(zip((2, 3, 4, 8), (theme.VERMILLION, theme.ORANGE, theme.BLUE, theme.GREEN), strict=True))
    dashes = {2: "solid", 3: "dash", 4: "dot", 8: "dashdot"}
    traces = [
        go.Scatter(x=list(CURVE), y=[theory.variance_factor(each, count) for each in CURVE], mode="lines",
                   name=f"{count} bits", hovertemplate="beta %{x}: %{y:.3g}<extra></extra>",
                   line=dict(color=colour, width=4 if count == bits else 2, dash=dashes[count]))
        for count, colour in colours.items()
    ]  # fmt: skip
    fair = theory.variance_factor(KEPT, BEFORE)
    rule, now = theory.momentum_rule(bits), theory.variance_factor(beta, bits)
    traces.append(
        go.Scatter(x=[beta, rule], y=[now, fair], mode="markers", name="beta chosen, and by the rule",
                   hovertemplate="beta %{x:.3f}: %{y:.3g}<extra></extra>",
                   marker=dict(size=11, color=theme.INK, symbol=["circle", "diamond"])),
    )  # fmt: skip
    level = dict(type="line", xref="x domain", x0=0, x1=1, y0=fair, y1=fair, line=dict(color=theme.QUIET, dash="dot"))
    return theme.figure(
        *traces, height=420, showlegend=True, shapes=[level], margin=dict(l=8, r=8, t=30, b=8),
        annotations=[
            theme.heading(f"<b>{theme.significant(now / fair, 2)} times the noise of 8 bits at {KEPT}</b>"),
            theme.heading(f"the rule: beta {rule:.3f}", side="right"),
        ],
        meta=dict(narrow={"annotations.0.text": f"<b>{theme.significant(now / fair, 2)} × 8 bits</b>"}),
        legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(title=dict(text="beta of m"), range=[0, 1]),
        yaxis=dict(title=dict(text="factor on the noise"), type="log", range=[-9, 3],
                   tickvals=[1e-8, 1e-6, 1e-4, 1e-2, 1, 100], ticktext=["1e-8", "1e-6", "1e-4", "0.01", "1", "100"]),
    )  # fmt: skip


def variance_says(bits=2, beta=0.9):
    """`variance` in a sentence."""
    now, fair = theory.variance_factor(beta, bits), theory.variance_factor(KEPT, BEFORE)
    return (
        f"At beta {beta:g}, {bits} bits add {theme.significant(now / fair, 2)} times the noise that {BEFORE} bits add "
        f"at {KEPT}; they add as much at beta {theory.momentum_rule(bits):.3f}."
    )


# ---- memory ----


def memory(model="LLaMA 7B", precision="bfloat16"):
    """What does training keep? Weights, gradients and states by optimizer, activations left out."""
    import plotly.graph_objects as go

    names, size = [each.name for each in costs.DESIGNS], PRECISIONS[precision]
    kept = [costs.training_memory(MODELS[model], each, weight=size, gradient=size) for each in costs.DESIGNS]
    parts = {
        "weights": (theme.BLUE, "", [each.weights for each in kept]),
        "gradients": (theme.SKY, "/", [each.gradients for each in kept]),
        "optimizer states": (theme.VERMILLION, "x", [each.states for each in kept]),
    }
    traces = [
        go.Bar(y=names, x=[each / 1e9 for each in values], orientation="h", name=part, width=0.6,
               marker=theme.hatched(colour, shape), hovertemplate="%{y}: %{x:.1f} GB<extra>" + part + "</extra>")
        for part, (colour, shape, values) in parts.items()
    ]  # fmt: skip
    totals = [
        dict(text=f"{each.total / 1e9:,.0f} GB", x=each.total / 1e9, y=name, xanchor="left", xshift=4, showarrow=False,
             font=dict(size=theme.SMALL))
        for name, each in zip(names, kept, strict=True)
    ]  # fmt: skip
    most = max(each.total for each in kept) / 1e9
    card = dict(type="line", yref="y domain", y0=0, y1=1, x0=CARD / 1e9, x1=CARD / 1e9,
                line=dict(color=theme.INK, dash="dash"))  # fmt: skip
    return theme.figure(
        *traces, height=420, barmode="stack", showlegend=True, shapes=[card], annotations=totals,
        margin=dict(l=8, r=8, t=8, b=8), legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(title=dict(text="GB (dashed: one card of 80)"), range=[0, most * 1.18]),
        yaxis=dict(autorange="reversed"),
    )  # fmt: skip


def memory_says(model="LLaMA 7B", precision="bfloat16"):
    """`memory` in a sentence."""
    size = PRECISIONS[precision]
    found = {
        name: costs.training_memory(MODELS[model], costs.design(name), weight=size, gradient=size)
        for name in ("AdamW, float32", "SOLO 4/2")
    }
    before, after = found.values()
    return (
        f"Training {model} with weights and gradients in {precision} keeps {before.total / 1e9:,.0f} GB with AdamW, "
        f"{before.states / before.total:.0%} of it states, and {after.total / 1e9:,.0f} GB with SOLO 4/2, "
        f"{after.states / after.total:.0%} of it states."
    )
