"""Figures of pruned key channels: what is kept, what that costs, how counts are rounded, what an empty head sees."""

import functools
from statistics import fmean

import torch

from effattn_core import channels
from effattn_core.channels import costs as costs_channels
from figures import theme

SHARES = tuple(round(0.05 * step, 2) for step in range(2, 20))
ALIGNS = (1, 4, 8, 16)
STAGES = ("in the key", "as stored", "heads grouped by width")
RULES = ("learned, two stages", "learned", "sizes of q and k", "random", "slowest pairs", "fastest pairs",
         "learned, equal counts")  # fmt: skip


def share_words(pruned):
    """A share that is pruned, in words."""
    return f"{pruned:.0%} pruned"


@functools.lru_cache(maxsize=4096)
def _kept(importance, pruned, align):
    """(mask as a bool tensor [heads, head_dim], the share kept, the share of heads without any channel)."""
    kept = channels.build_mask(torch.tensor(importance), pruned, align).flatten(0, 1)
    return kept, kept.double().mean().item(), (kept.sum(-1) == 0).double().mean().item()


def frozen(importance):
    """Nested lists [layers][heads][head_dim] as tuples, so that what follows from them is computed once."""
    return tuple(tuple(map(tuple, layer)) for layer in importance)


def _names(importance):
    return [f"{layer + 1}.{head + 1}" for layer, heads in enumerate(importance) for head in range(len(heads))]


def _stored(kept, stage):
    """(cells at a stage, bool [heads, head_dim]; the heads in their order). kept: bool [heads, head_dim]."""
    counts = kept.sum(-1)
    cells = kept if stage == STAGES[0] else torch.arange(kept.shape[1]) < counts[:, None]
    order = list(range(len(kept)))
    if stage == STAGES[2]:
        order.sort(key=lambda head: -counts[head].item())
    return cells, order


def layout(importance, pruned=0.5, stage=STAGES[0], align=8):
    """What does a token of the middle keep? A row of key channels and values per head; what is dropped is empty.

    importance: as `frozen` returns it; stage: of STAGES, the channels where they are in the key, pushed together as
    they are stored, and with heads by falling count, as a deployed cache holds them.
    """
    import plotly.graph_objects as go

    kept, share, empty = _kept(importance, pruned, align)
    cells, order = _stored(kept, stage)
    counts, head_dim, names = kept.sum(-1).tolist(), kept.shape[1], _names(importance)
    gap, rows = head_dim // 8, list(range(len(order)))
    key, value, nothing = 1, 2, None
    z = [[key if there else nothing for there in cells[head].tolist()] + [nothing] * gap
         + [value if counts[head] else nothing] * head_dim for head in order]  # fmt: skip
    halves = [(-0.5, head_dim - 0.5), (head_dim + gap - 0.5, 2 * head_dim + gap - 0.5)]
    shapes = [dict(type="rect", x0=left, x1=right, y0=row - 0.42, y1=row + 0.42, line=dict(color=theme.QUIET, width=1))
              for row in rows for left, right in halves]  # fmt: skip
    if stage == STAGES[2]:
        edges = [row - 0.5 for row in rows[1:] if counts[order[row]] != counts[order[row - 1]]]
        shapes += [dict(type="line", x0=-0.5, x1=halves[1][1], y0=edge, y1=edge, line=dict(color=theme.INK, width=2))
                   for edge in edges]  # fmt: skip
    colours = [[0, theme.BLUE], [0.5, theme.BLUE], [0.5, theme.ORANGE], [1, theme.ORANGE]]
    relative = costs_channels.relative_bytes(share, empty)
    title = f"<b>{relative:.0%} of a whole cache</b>, {share:.0%} of the keys"
    where = "channels from fast pairs to slow" if stage == STAGES[0] else "kept channels, pushed together"
    return theme.figure(
        go.Heatmap(z=z, zmin=key, zmax=value, colorscale=colours, showscale=False, xgap=1, ygap=9, hoverinfo="skip"),
        height=360, shapes=shapes, annotations=[theme.heading(title)], margin=dict(l=8, r=8, t=30, b=8),
        xaxis=dict(range=[-1, 2 * head_dim + gap], tickvals=[sum(half) / 2 for half in halves],
                   ticktext=["key", "value"], ticks="", showgrid=False, title=dict(text=f"key: {where}")),
        yaxis=dict(range=[len(rows) - 0.5, -0.5], tickvals=rows, ticktext=[names[head] for head in order],
                   showgrid=False, title=dict(text="layer.head")),
    )  # fmt: skip


def layout_says(importance, pruned=0.5, stage=STAGES[0], align=8):
    """`layout` in a sentence."""
    kept, share, empty = _kept(importance, pruned, align)
    counts = kept.sum(-1).tolist()
    widths = len(set(counts) - {0})
    more = {
        STAGES[0]: "each head keeps channels of its own",
        STAGES[1]: "the kept ones are stored side by side",
        STAGES[2]: f"heads lie in {widths} group{'s' * (widths != 1)} of equal width",
    }[stage]
    return (
        f"With {share_words(pruned)}, {share:.0%} of the key channels stay and {round(empty * len(counts))} of "
        f"{len(counts)} heads keep none: a token of the middle takes {costs_channels.relative_bytes(share, empty):.0%} "
        f"of its bytes in a whole cache; {more}."
    )


def _by_part(kept, parts):
    """Share kept of each part of the rotary pairs, fastest first. kept: bool [heads, head_dim], pairs side by side."""
    return kept.double().view(len(kept), parts, -1).mean((0, 2)).tolist()


def survivors(importances, task="needle", pruned=0.5, align=8):
    """Which channels survive? Heads over channels from the fastest rotary pair to the slowest, and shares by eighths.

    importances: task -> importances, one per seed, each as `frozen` returns it and with a mask of its own. The shares
    are means over the seeds, with the least and the most. Beside them the share of each quarter in the masks released
    for Llama 3.1 8B, at 69 % pruned.
    """
    import plotly.graph_objects as go

    cells, parts, share = _survivors(importances[task], pruned, align)
    quarters, head_dim, heads = costs_channels.RELEASED_QUARTERS, len(cells[0]), len(cells)
    wide, own = head_dim / 8, heads // len(importances[task])
    mean, least, most = ([pick(part) for part in zip(*parts, strict=True)] for pick in (fmean, min, max))
    traces = [
        go.Heatmap(z=cells, zmin=0, zmax=1, colorscale=theme.MAGNITUDE, xgap=1, ygap=1,
                   colorbar=dict(title=dict(text="importance", side="right"), len=0.55, y=1, yanchor="top",
                                 thickness=12, tickvals=[0, 0.5, 1]),
                   hovertemplate="channel %{x}: importance %{z}<extra></extra>"),
        go.Bar(x=[wide * (part + 0.5) - 0.5 for part in range(8)], y=mean, width=0.9 * wide, name="kept here",
               marker=dict(color=theme.BLUE), xaxis="x2", yaxis="y2",
               error_y=dict(type="data", symmetric=False, color=theme.INK, thickness=1.5, width=4,
                            array=[top - middle for top, middle in zip(most, mean, strict=True)],
                            arrayminus=[middle - low for middle, low in zip(mean, least, strict=True)]),
               hovertemplate="%{y:.0%} kept<extra></extra>"),
        go.Scatter(x=[head_dim * part / 4 - 0.5 for part in range(5)], y=[*quarters, quarters[-1]], mode="lines",
                   line=dict(color=theme.VERMILLION, width=3, dash="dot", shape="hv"), xaxis="x2", yaxis="y2",
                   name="released for Llama 3.1 8B", hoverinfo="skip"),
    ]  # fmt: skip
    title = f"<b>{share:.0%} kept</b>, {pruned:.0%} asked to go"
    across = dict(range=[-0.5, head_dim - 0.5], showgrid=False)
    edges = [dict(type="line", x0=-0.5, x1=head_dim - 0.5, y0=edge - 0.5, y1=edge - 0.5,
                  line=dict(color=theme.INK, width=2)) for edge in range(own, heads, own)]  # fmt: skip
    return theme.figure(
        *traces, height=500, showlegend=True, legend=dict(y=-0.16, yanchor="top"), margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(title)], shapes=edges,
        xaxis=dict(showticklabels=False, ticks="", **across),
        yaxis=dict(domain=[0.42, 1], tickvals=[own * (seed + 0.5) - 0.5 for seed in range(heads // own)],
                   ticktext=[f"seed {seed}" for seed in range(heads // own)], showgrid=False,
                   range=[heads - 0.5, -0.5], title=dict(text="key heads")),
        xaxis2=dict(anchor="y2", title=dict(text="key channel: fast pairs left, slow pairs right"), **across),
        yaxis2=dict(anchor="x2", domain=[0, 0.34], range=[0, 1.02], tickformat=".0%", tickvals=[0, 0.5, 1],
                    title=dict(text="share kept")),
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _survivors(seeds, pruned, align):
    """(importance of each channel kept, else None, one row per head; share kept by eighths, per seed; the mean)."""
    cells, parts, shares = [], [], []
    for importance in seeds:
        kept, share, _ = _kept(importance, pruned, align)
        values = torch.tensor(importance).flatten(0, 1).tolist()
        cells += [[round(number, 1) if there else None for number, there in zip(row, mask, strict=True)]
                  for row, mask in zip(values, kept.tolist(), strict=True)]  # fmt: skip
        parts.append(_by_part(kept, 8))
        shares.append(share)
    return cells, parts, fmean(shares)


def kept_by_eighths(seeds, pruned, align=8):
    """Of each seed's mask, the share kept of each eighth of the rotary pairs, fastest first: eight per seed."""
    return _survivors(seeds, pruned, align)[1]


def survivors_says(importances, task="needle", pruned=0.5, align=8):
    """`survivors` in a sentence."""
    _, parts, share = _survivors(importances[task], pruned, align)
    eighths = [fmean(part) for part in zip(*parts, strict=True)]
    return (
        f"The masks of the task “{task}”, with {share_words(pruned)} and counts in multiples of {align}, keep "
        f"{share:.1%} of the channels, mean over {len(parts)} seeds: {fmean(eighths[:2]):.1%} in the fastest quarter "
        f"of the rotary pairs, {fmean(eighths[4:]):.1%} in the slower half."
    )


def rounding(importance, pruned=0.7, align=8):
    """What does rounding to multiples do? Each head's count at the threshold, hollow, and what it keeps, solid."""
    import plotly.graph_objects as go

    exact, asked, _ = _kept(importance, pruned, 1)
    kept, share, empty = _kept(importance, pruned, align)
    before, after, names = exact.sum(-1).tolist(), kept.sum(-1).tolist(), _names(importance)
    hollow = dict(color="rgba(0,0,0,0)", line=dict(color=theme.INK, width=2))
    traces = [
        go.Bar(x=names, y=after, name="kept, rounded", marker=dict(color=theme.BLUE), width=0.7, hoverinfo="skip"),
        go.Bar(x=names, y=before, name="over the threshold", marker=hollow, width=0.4,
               hovertemplate="%{y} over the threshold<extra></extra>"),
    ]  # fmt: skip
    steps = list(range(0, kept.shape[1] + 1, max(align, 4)))
    shapes = [dict(type="line", xref="paper", x0=0, x1=1, y0=edge, y1=edge,
                   line=dict(color=theme.QUIET, width=1, dash="dot"))
              for edge in range(0, kept.shape[1] + 1, align) if align > 1]  # fmt: skip
    title = f"<b>{share:.1%} kept</b>, {asked:.1%} over the threshold"
    return theme.figure(
        *traces, height=360, barmode="overlay", shapes=shapes, showlegend=True, margin=dict(l=8, r=8, t=30, b=8),
        annotations=[theme.heading(title)], legend=dict(y=-0.22, yanchor="top"),
        xaxis=dict(type="category", title=dict(text="layer.head"), showgrid=False),
        yaxis=dict(range=[0, kept.shape[1] + 1], tickvals=steps, showgrid=False, title=dict(text="key channels")),
    )  # fmt: skip


def rounding_says(importance, pruned=0.7, align=8):
    """`rounding` in a sentence."""
    exact, asked, _ = _kept(importance, pruned, 1)
    kept, share, empty = _kept(importance, pruned, align)
    moved = int((kept.sum(-1) != exact.sum(-1)).sum())
    return (
        f"With {share_words(pruned)}, {asked:.1%} of the channels lie at or over the threshold; in multiples of "
        f"{align}, {moved} of {len(kept)} heads change and {share:.1%} of the channels are kept, "
        f"{int((kept.sum(-1) == 0).sum())} heads none."
    )


FAR = tuple(1 << power for power in range(7, 18))
LOGITS = (0.0, 2.0, 4.0, 6.0, 8.0)
WHOLE = costs_channels.SINKS + costs_channels.TRAINED_RECENT  # tokens that an empty head read in the released training


def empty_head(far=65536, logit=4.0, whole=WHOLE):
    """How much of its attention does a head without channels give to the middle? As trained, over the middle's length.

    whole: tokens that are read whole, each with `logit`; as deployed the share is 0.
    """
    import plotly.graph_objects as go

    shares = [channels.middle_mass(whole, logit, each) for each in FAR]
    here = channels.middle_mass(whole, logit, far)
    traces = [
        go.Scatter(x=FAR, y=shares, mode="lines", name="as trained: logits 0",
                   line=dict(color=theme.VERMILLION, width=3), hovertemplate="%{x:,} tokens: %{y:.0%}<extra></extra>"),
        go.Scatter(x=FAR, y=[0.0] * len(FAR), mode="lines", name="as deployed: removed", hoverinfo="skip",
                   line=dict(color=theme.BLUE, width=4, dash="dash")),
        go.Scatter(x=[far], y=[here], mode="markers", showlegend=False, hoverinfo="skip", cliponaxis=False,
                   marker=dict(symbol="circle-open", size=16, color=theme.INK, line=dict(width=3))),
    ]  # fmt: skip
    title = f"<b>{here:.0%}</b> of the mass at {theme.tokens(far)} tokens"
    return theme.figure(
        *traces, height=360, showlegend=True, annotations=[theme.heading(title)], legend=dict(y=-0.22, yanchor="top"),
        margin=dict(l=8, r=14, t=30, b=8),
        xaxis=dict(type="log", title=dict(text="tokens in the middle"), tickvals=FAR[::2],
                   ticktext=[theme.tokens(each) for each in FAR[::2]]),
        yaxis=dict(range=[-0.02, 1.02], tickformat=".0%", title=dict(text="attention on the middle")),
    )  # fmt: skip


def empty_head_says(far=65536, logit=4.0, whole=WHOLE):
    """`empty_head` in a sentence."""
    here = channels.middle_mass(whole, logit, far)
    return (
        f"{whole:,} tokens read whole with logits of {logit:g}, {far:,} in the middle with logits of 0: the middle "
        f"takes {here:.1%} of the attention as masks are trained, nothing as they are deployed."
    )


def _curves(rows, key):
    """rule -> [(share kept, mean, least, most over the seeds)] by falling share, rules in the order of RULES."""
    found = {}
    for rule in sorted({row["rule"] for row in rows} & set(RULES), key=RULES.index):
        found[rule] = []
        for share in sorted({row["pruned"] for row in rows if row["rule"] == rule}):
            here = [row for row in rows if (row["rule"], row["pruned"]) == (rule, share)]
            each, kept = [row[key] for row in here], [row.get("kept", 1 - row["pruned"]) for row in here]
            found[rule].append((fmean(kept), fmean(each), min(each), max(each)))
    if not found:
        raise ValueError("errors needs rows with a rule and a share; it was given none.")
    return found


def named(row):
    """The recorded method of a timed row, with the share that it kept beside the one that it was asked to keep."""
    return row["method"].replace("channels, ", "").replace("kept", f"asked to stay, {row['kept']:.0%} kept")


LOOKS = {
    "learned, two stages": (theme.BLUE, "solid", "circle"),
    "learned": (theme.BLUE, "solid", "circle"),
    "learned, equal counts": (theme.SKY, "dash", "star"),
    "sizes of q and k": (theme.GREEN, "longdash", "square"),
    "random": (theme.ORANGE, "dot", "diamond"),
    "slowest pairs": (theme.PURPLE, "dashdot", "triangle-up"),
    "fastest pairs": (theme.VERMILLION, "longdashdot", "cross"),
}


def errors(tables, task="Shakespeare"):
    """What does each rule's mask cost? Means over seeds, or passages, against the share kept; bars from least to most.

    tables: task -> (rows, key, title of the upward axis, whether it is logarithmic). rows: dicts with rule, pruned,
    `key` and, where counts were rounded, kept, as measurements/channels/run.py writes them.
    """
    import plotly.graph_objects as go

    (rows, key, title, logarithmic), traces = tables[task], []
    for rule, points in _curves(rows, key).items():
        colour, dash, symbol = LOOKS[rule]
        kept, mean, least, most = zip(*points, strict=True)
        spread = dict(type="data", symmetric=False, thickness=1.5, width=5, color=colour,
                      array=[top - middle for top, middle in zip(most, mean, strict=True)],
                      arrayminus=[middle - low for middle, low in zip(mean, least, strict=True)])  # fmt: skip
        traces.append(go.Scatter(
            x=kept, y=mean, error_y=spread, mode="lines+markers", name=rule,
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=10),
            hovertemplate="%{y:.3g}<extra>" + rule + "</extra>",
        ))  # fmt: skip
    shares = sorted({1 - row["pruned"] for row in rows if row["rule"] in RULES})
    vertical = dict(type="log", dtick=1, exponentformat="none") if logarithmic else dict(rangemode="tozero")
    return theme.figure(
        *traces, height=420, showlegend=True, legend=dict(y=-0.2, yanchor="top"),
        xaxis=dict(tickvals=shares, tickformat=".0%", title=dict(text="share of key channels kept")),
        yaxis=dict(title=dict(text=title), **vertical),
    )  # fmt: skip


def errors_says(tables, task="Shakespeare", over="seeds"):
    """`errors` in a sentence: where each rule ends. over: what the means are over."""
    rows, key, title, _ = tables[task]
    ends = "; ".join(f"{rule} {theme.significant(points[-1][1], 2)}" for rule, points in _curves(rows, key).items())
    share = max(row["pruned"] for row in rows if row["rule"] in RULES)
    return f"{title[:1].upper()}{title[1:]}, {share:.0%} asked to go, means over {over}: {ends}."
