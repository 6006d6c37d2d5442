"""Ways of reading a cache, judged by a trained model: what a byte buys, and how a text drifts that is decoded sparsely.

Rows are those of `book/measurements/rectified/run_smollm2.py`, a row per passage of the plays.
"""

import math
from statistics import fmean

from figures import theme
from figures.measured import looks

KL, PERPLEXITY = "KL to dense", "perplexity"
MEASURES = {KL: "KL to dense, nats", PERPLEXITY: "perplexity, over that of dense decoding"}


def points(rows, tokens, measure=KL):
    """name -> [(share of the bytes, mean, downward, upward)], by share; means over passages.

    Of a KL the bars are the standard error over all tokens, of a perplexity the smallest and largest passage. Raises
    ValueError where no row has so many tokens.
    """
    cells, dense = {}, {}
    for row in rows:
        if row["what"] == "frontier" and row["tokens"] == tokens:
            if row["name"] == "dense":
                dense[row["passage"]] = row["loss"]
            else:
                cells.setdefault((row["name"], row["dial"]), []).append(row)
    if not cells:
        raise ValueError(f"no row of the frontier has {tokens:,} tokens.")
    found = {}
    for (name, _), each in cells.items():
        share = fmean(row["share"] for row in each)
        if measure == KL:
            mean = fmean(row["kl"] for row in each)
            down = up = math.hypot(*(row["kl_error"] for row in each)) / len(each)
        else:
            times = [row["loss"] - dense[row["passage"]] for row in each]
            mean = math.exp(fmean(times))
            down, up = mean - math.exp(min(times)), math.exp(max(times)) - mean
        found.setdefault(name, []).append((share, mean, down, up))
    return {name: sorted(each) for name, each in found.items()}


def lengths(rows):
    """Tokens in the cache of the recorded frontiers."""
    return sorted({row["tokens"] for row in rows if row["what"] == "frontier"})


def frontier(rows, tokens, measure=KL):
    """What does a byte buy in a trained model? KL or perplexity over the share of bytes, one line per way."""
    import plotly.graph_objects as go

    groups, traces = points(rows, tokens, measure), []
    for name, colour, dash, symbol in looks(list(groups)):
        share, mean, down, up = zip(*groups[name], strict=True)
        unit = "nats" if measure == KL else "times dense"
        traces.append(go.Scatter(
            x=share, y=mean, name=name, mode="lines+markers", line=dict(color=colour, dash=dash, width=3),
            marker=dict(symbol=symbol, size=10),
            error_y=dict(type="data", array=up, arrayminus=down, symmetric=False, thickness=1.5, width=4,
                         color=theme.INK),
            hovertemplate="%{x:.0%} of the bytes: %{y:.3g} " + unit + "<extra>" + name + "</extra>",
        ))  # fmt: skip
    every = [points(rows, each, measure) for each in lengths(rows)]
    flat = [point for each in every for group in each.values() for point in group]
    ticks = [0.06, 0.09, 0.12, 0.18, 0.25, 0.35]
    low, high = min(mean - down for _, mean, down, _ in flat), max(mean + up for _, mean, _, up in flat)
    if measure == KL:
        low = max(low, min(mean for _, mean, _, _ in flat) / 2)
        marks = [each for each in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low / 1.5 < each < high * 1.5]
        up = dict(type="log", range=[math.log10(low / 1.2), math.log10(high * 1.2)], tickvals=marks,
                  ticktext=[f"{each:g}" for each in marks])  # fmt: skip
    else:
        room = (high - low) / 20
        up = dict(range=[min(low, 1) - room, high + room])
    edges = min(share for share, *_ in flat), max(share for share, *_ in flat)
    return theme.figure(
        *traces, height=400, showlegend=True,
        xaxis=dict(type="log", range=[math.log10(edges[0] / 1.1), math.log10(edges[1] * 1.1)], tickvals=ticks,
                   ticktext=[f"{tick:.0%}" for tick in ticks],
                   title=dict(text="bytes per token, over those of dense decoding")),
        yaxis=dict(title=dict(text=MEASURES[measure]), **up),
    )  # fmt: skip


def frontier_says(rows, tokens, measure=KL):
    """`frontier` in a sentence: each way at its fewest and its most bytes."""
    unit, digits = (" nats", 2) if measure == KL else (" times dense decoding's", 3)
    parts = [
        f"{name} from {theme.significant(each[0][1], digits)}{unit} at {each[0][0]:.0%} of the bytes to "
        f"{theme.significant(each[-1][1], digits)} at {each[-1][0]:.0%}"
        for name, each in points(rows, tokens, measure).items()
    ]
    return f"{measure[:1].upper()}{measure[1:]} at {theme.tokens(tokens)} tokens: {'; '.join(parts)}."


def at_share(rows, tokens, name, share, measure=KL):
    """What a way reaches at a share of the bytes, by a straight line between its points on logarithmic axes.

    None outside of what was measured.
    """
    group = points(rows, tokens, measure)[name]
    for (left, low, *_), (right, high, *_) in zip(group, group[1:], strict=False):
        if left <= share <= right:
            part = math.log(share / left) / math.log(right / left)
            return math.exp((1 - part) * math.log(low) + part * math.log(high))
    return None


def drifted(rows, merge=2):
    """period -> KL of each stretch of the text: [passages][stretches], each the mean of `merge` recorded ones."""
    found = {}
    for row in rows:
        if row["what"] == "drift":
            kl = row["kl"]
            found.setdefault(row["period"], []).append(
                [fmean(kl[at : at + merge]) for at in range(0, len(kl) - merge + 1, merge)]
            )
    return found


def drift(rows, merge=2):
    """Does a text that is decoded sparsely run away from dense decoding? KL by place, per period of rectification.

    Means over passages.
    """
    import plotly.graph_objects as go

    row = next(row for row in rows if row["what"] == "drift")
    wide, found, traces = row["bucket"] * merge, drifted(rows, merge), []
    order = sorted(found, key=lambda period: period or math.inf, reverse=True)
    for period, (_, colour, dash, symbol) in zip(order, looks([str(each) for each in order]), strict=True):
        means = [fmean(stretch) for stretch in zip(*found[period], strict=True)]
        name = "never" if period == 0 else f"every {period} tokens"
        traces.append(go.Scatter(
            x=[wide * (place + 0.5) for place in range(len(means))], y=means, mode="lines+markers", name=name,
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=9),
            hovertemplate="around token %{x:.0f}: %{y:.3f} nats<extra>rectified " + name + "</extra>",
        ))  # fmt: skip
    return theme.figure(
        *traces, height=380, showlegend=True,
        xaxis=dict(title=dict(text=f"tokens decoded (each point: {wide} of them)"), range=[0, wide * len(means)]),
        yaxis=dict(title=dict(text="KL to dense, nats"), rangemode="tozero"),
    )  # fmt: skip


def drift_says(rows, merge=2):
    """`drift` in a sentence: the mean of each period over the first and the last quarter of the text."""
    parts = []
    for period, passages in sorted(drifted(rows, merge).items(), key=lambda each: each[0] or math.inf):
        quarter = max(1, len(passages[0]) // 4)
        first, last = (fmean(fmean(each[part]) for each in passages)
                       for part in (slice(None, quarter), slice(-quarter, None)))  # fmt: skip
        name = "never" if period == 0 else f"every {period} tokens"
        parts.append(f"{name} from {theme.significant(first, 2)} to {theme.significant(last, 2)}")
    return f"KL to dense in nats, over the first and the last quarter of the tokens, rectified {'; '.join(parts)}."


def needles(rows):
    """A table's rows: numbers found by each way at its dials, one column per length of the prompt."""
    found = [row for row in rows if row["what"] == "needle"]
    told = {}
    for row in sorted(found, key=lambda row: row["dial"]):
        told.setdefault(row["name"], {}).setdefault(row["tokens"], []).append(str(row["found"]))
    names = dict.fromkeys(row["name"] for row in found)
    return [
        {"way": name} | {f"{tokens:,} tokens": " · ".join(told[name][tokens]) for tokens in sorted(told[name])}
        for name in names
    ]
