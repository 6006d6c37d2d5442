"""Figures of the attention chapter, one question each; a builder and, for those who cannot see it, its sentence."""

import math

import torch

from effattn_core import attention, costs
from figures import theme

TOKENS = ["the", "cat", "sat", "on", "a", "mat"]
SCORES = [1.0, 2.0, 0.5, 3.0, -0.5, 1.5]
VALUES = [[1.0, 0.0], [0.0, 2.0], [2.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [0.5, 2.0]]
CLEAR = "rgba(0,0,0,0)"


def _number(value):
    return theme.significant(value).replace("-", "−")


def _walk(scores, values):
    """(maximum, total, accumulator, rescale) after 0, 1, … keys, in float64."""
    scores, values = torch.tensor(scores, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    states = [(-math.inf, 0.0, [0.0] * values.shape[1], 1.0)]
    for maximum, total, accumulator in attention.online_softmax(scores, values):
        rescale = math.exp(states[-1][0] - maximum.item())
        states.append((maximum.item(), total.item(), accumulator.tolist(), rescale))
    return states, (scores.softmax(0) @ values).tolist()


def online_softmax(step, tokens=TOKENS, scores=SCORES, values=VALUES):
    """How can a softmax be taken without seeing the whole row? The walk of one query along its keys, after `step` keys.

    Three panels: the scores and the largest so far; the weights by that maximum, with what the earlier ones were
    before it grew; the output so far, and the direct softmax of all keys. Raises ValueError for a step not in the row.
    """
    import plotly.graph_objects as go

    count = len(tokens)
    if not 0 <= step <= count:
        raise ValueError(f"step must lie in 0..{count}; it is {step}.")
    states, direct = _walk(scores, values)
    maximum, total, accumulator, rescale = states[step]
    place = list(range(count))
    read = [theme.BLUE if i < step - 1 else theme.VERMILLION if i == step - 1 else CLEAR for i in place]
    marker = dict(color=read, line=dict(color=theme.INK, width=1))
    marker["pattern"] = dict(shape=["/" if i == step - 1 else "" for i in place], solidity=0.5)
    weights = [math.exp(scores[i] - maximum) if i < step else 0.0 for i in place]
    earlier = [math.exp(scores[i] - states[step - 1][0]) if i < step - 1 else None for i in place]
    hollow = dict(color=CLEAR, line=dict(color=theme.INK, width=1.5))
    dims = [f"dim {i + 1}" for i in range(len(direct))]
    output = [each / total if total else 0.0 for each in accumulator]
    shown = dict(hovertemplate="%{x}: %{y:.3g}<extra></extra>")
    traces = [
        go.Bar(x=place, y=scores, marker=marker, width=0.7, **shown),
        go.Scatter(x=[-0.5, step - 0.5], y=[maximum] * 2, mode="lines", visible=step > 0, hoverinfo="skip",
                   line=dict(color=theme.INK, width=2, dash="dash")),
        go.Bar(x=place, y=weights, marker=marker, width=0.7, xaxis="x2", yaxis="y2", **shown),
        go.Bar(x=place, y=earlier, marker=hollow, width=0.7, xaxis="x2", yaxis="y2", hoverinfo="skip"),
        go.Bar(x=dims, y=output, marker=dict(color=theme.GREEN), width=0.5, xaxis="x3", yaxis="y3", **shown),
        go.Scatter(x=dims, y=direct, mode="markers", xaxis="x3", yaxis="y3", hoverinfo="skip",
                   marker=dict(symbol="diamond-open", size=13, color=theme.INK, line=dict(width=2))),
    ]  # fmt: skip
    titles = [
        f"<b>Scores</b>, largest so far <b>m = {_number(maximum) if step else '−∞'}</b>",
        f"<b>Weights</b> e<sup>score − m</sup>, total <b>l = {_number(total)}</b>",
        f"<b>Output</b> a / l; ◇ over all {count} keys",
    ]
    ticks = dict(tickvals=place, ticktext=tokens, range=[-0.6, count - 0.4], showgrid=False)
    top = max(max(map(max, values)), max(map(abs, direct)))
    axes = dict(
        xaxis=dict(domain=[0, 0.46], **ticks), xaxis2=dict(domain=[0.54, 1], anchor="y2", **ticks),
        xaxis3=dict(domain=[0, 0.46], anchor="y3", showgrid=False),
        yaxis=dict(domain=[0.57, 0.94], range=[min(0, *scores) - 0.2, max(scores) + 0.4], zeroline=True,
                   zerolinecolor=theme.QUIET),
        yaxis2=dict(domain=[0.57, 0.94], anchor="x2", range=[0, 1.1], dtick=0.5),
        yaxis3=dict(domain=[0, 0.36], anchor="x3", range=[-1.1, top + 0.1], zeroline=True, zerolinecolor=theme.QUIET),
    )  # fmt: skip
    ledger = [
        "<b>Kept while walking</b>",
        f"m = {_number(maximum) if step else '−∞'}" + (f", so old × {_number(rescale)}" if rescale < 1 < step else ""),
        f"l = {_number(total)}",
        "a = (" + ", ".join(_number(each) for each in accumulator) + ")",
        "a / l = (" + ", ".join(_number(each) for each in output) + ")" if step else "a / l: not yet defined",
        "<b>equal to the direct softmax</b>" if step == count else f"{count - step} of {count} keys still to come",
    ]
    note = dict(text="<br>".join(ledger), xref="paper", x=0.54, xanchor="left", yref="paper", y=0.43, yanchor="top",
                align="left", showarrow=False, font=dict(size=theme.NORMAL))  # fmt: skip
    narrow = {
        "height": 780, "xaxis.domain": [0, 1], "xaxis2.domain": [0, 1], "xaxis3.domain": [0, 1],
        "yaxis.domain": [0.78, 0.97], "yaxis2.domain": [0.5, 0.69], "yaxis3.domain": [0.23, 0.41],
        "annotations.3.x": 0, "annotations.3.y": 0.16,
    }  # fmt: skip
    annotations = [*(theme.heading(text, axis) for text, axis in zip(titles, ("", "2", "3"), strict=True)), note]
    look = dict(showlegend=False, barmode="overlay", annotations=annotations, meta=dict(narrow=narrow))
    return theme.figure(*traces, height=500, **look, **axes)


def online_softmax_says(step, tokens=TOKENS, scores=SCORES, values=VALUES):
    """`online_softmax` in a sentence or two."""
    if step == 0:
        return "No key is read yet: the maximum is minus infinity, total and accumulator are zero."
    states, direct = _walk(scores, values)
    maximum, total, accumulator, rescale = states[step]
    output = ", ".join(_number(each / total) for each in accumulator)
    moved = f"the maximum grows to {_number(maximum)} and everything before shrinks to {_number(rescale)} of itself"
    grown = "the first score is the maximum" if step == 1 else moved if rescale < 1 else "the maximum stays"
    end = " That is the direct softmax." if step == len(tokens) else ""
    return (
        f"After “{tokens[step - 1]}” (score {_number(scores[step - 1])}): {grown}; "
        f"the total is {_number(total)}, the output {output}.{end}"
    )


def _schedule(time, block, window, sinks, causal, head_dim):
    """(blocks by kind, the kernel's traffic, the naive form's traffic) in bfloat16, for one head."""
    mask = dict(causal=causal, window=window if causal else None, sinks=sinks if causal and window else 0)
    blocks = costs.block_schedule(time, block, block, **mask)
    element = costs.BYTES["bfloat16"]
    flash = costs.flash_traffic(1, 1, time, time, head_dim, block_query=block, block_key=block, element=element, **mask)
    return blocks, flash, costs.naive_traffic(1, 1, time, time, head_dim, element=element)


def schedule(time=512, block=64, window=None, sinks=0, causal=True, head_dim=64):
    """What does the flash kernel not do? Its blocks of scores by kind, and bytes and operations against the naive form.

    window: keys seen, None for all; it and `sinks` mean something only under a causal mask.
    """
    import plotly.graph_objects as go

    blocks, flash, naive = _schedule(time, block, window, sinks, causal, head_dim)
    side = blocks.shape[0]
    place = [block * (i + 0.5) for i in range(side)]
    words = ["skipped", "computed whole", "computed under a mask"]
    colours = [CLEAR, theme.BLUE, theme.ORANGE]
    scale = [[edge / 3, colours[kind]] for kind in range(3) for edge in (kind, kind + 1)]
    names = [[words[kind] for kind in row] for row in blocks.tolist()]
    grid = go.Heatmap(
        z=blocks.tolist(), x=place, y=place, zmin=-0.5, zmax=2.5, colorscale=scale, showscale=False, xgap=2, ygap=2,
        customdata=names, hovertemplate="queries near %{y}, keys near %{x}: %{customdata}<extra></extra>",
    )  # fmt: skip
    rows, columns = (blocks == 2).nonzero(as_tuple=True)
    hatch = go.Scatter(
        x=[place[i] for i in columns.tolist()], y=[place[i] for i in rows.tolist()], mode="markers", hoverinfo="skip",
        marker=dict(symbol="line-ne", size=max(6, 120 // side), line=dict(width=2, color="#000000")),
    )  # fmt: skip
    most = naive.loaded  # one scale for all that moves, another for operations
    rows = [
        ("FLOP, flash", flash.flops / naive.flops, costs.format_flops(flash.flops)),
        ("FLOP, naive", 1.0, costs.format_flops(naive.flops)),
        ("Stored, flash", flash.stored / most, costs.format_bytes(flash.stored)),
        ("Stored, naive", naive.stored / most, costs.format_bytes(naive.stored)),
        ("Loaded, flash", flash.loaded / most, costs.format_bytes(flash.loaded)),
        ("Loaded, naive", 1.0, costs.format_bytes(naive.loaded)),
    ]
    colours = [theme.BLUE if "flash" in name else theme.QUIET for name, _, _ in rows]
    bars = go.Bar(
        orientation="h", x=[share for _, share, _ in rows], y=list(range(6)), width=0.42, xaxis="x2", yaxis="y2",
        marker=dict(color=colours), hoverinfo="skip",
    )  # fmt: skip
    annotations = [theme.heading(name, "2", "left", row) for row, (name, _, _) in enumerate(rows)]
    annotations += [theme.heading(f"<b>{text}</b>", "2", "right", row) for row, (_, _, text) in enumerate(rows)]
    key = (
        f'<span style="color:{theme.BLUE}">■</span> whole  '
        f'<span style="color:{theme.ORANGE}">■</span> masked, hatched  □ skipped'
    )
    annotations.append(theme.heading(key))
    ticks = dict(tickvals=[0, time // 2, time], range=[0, time], showgrid=False, showline=True, mirror=True)
    narrow = {
        "height": 740, "xaxis.domain": [0, 1], "yaxis.domain": [0.52, 0.965], "xaxis2.domain": [0, 1],
        "yaxis2.domain": [0, 0.42],
    }  # fmt: skip
    return theme.figure(
        grid, hatch, bars, height=400, annotations=annotations, showlegend=False, meta=dict(narrow=narrow),
        xaxis=dict(domain=[0, 0.54], title=dict(text="key"), **ticks),
        yaxis=dict(domain=[0, 0.93], title=dict(text="query"), **{**ticks, "range": [time, 0]}),
        xaxis2=dict(domain=[0.62, 1], range=[0, 1], anchor="y2", showticklabels=False, showgrid=False),
        yaxis2=dict(domain=[0, 0.93], range=[-0.4, 5.7], anchor="x2", showticklabels=False, showgrid=False),
    )  # fmt: skip


def schedule_says(time=512, block=64, window=None, sinks=0, causal=True, head_dim=64):
    """`schedule` in a sentence."""
    blocks, flash, naive = _schedule(time, block, window, sinks, causal, head_dim)
    skipped, whole, masked = (int((blocks == kind).sum()) for kind in range(3))
    moved, before = flash.loaded + flash.stored, naive.loaded + naive.stored
    ignored = "" if causal or (window is None and not sinks) else " Window and sinks need a causal mask: left out."
    return (
        f"Of {blocks.numel()} blocks {whole} are computed whole, {masked} under a mask, {skipped} skipped; "
        f"{costs.format_bytes(moved)} moved against {costs.format_bytes(before)}, {before / moved:.1f} times less, "
        f"with {flash.flops / naive.flops:.0%} of the operations.{ignored}"
    )


SHARING = {
    32: ("MHA, 32 heads", "solid", "circle"),
    8: ("GQA, 8 heads", "dash", "square"),
    1: ("MQA, 1 head", "dot", "diamond"),
}


def cache(context=131072, key_value_heads=8, dtype="bfloat16", model=costs.LLAMA_8B):
    """When does the cache outgrow a GPU? Its bytes over context, for three ways to share heads, and 80 GB."""
    import plotly.graph_objects as go

    contexts = [1 << power for power in range(12, 21)]
    memory = costs.HARDWARE["H100 SXM"].memory
    traces, annotations = [], []
    for colour, (heads, (name, dash, symbol)) in zip(theme.CLASSES.values(), SHARING.items(), strict=False):
        sizes = [costs.cache_bytes(model, length, dtype=dtype, key_value_heads=heads) for length in contexts]
        chosen = heads == key_value_heads
        traces.append(go.Scatter(
            x=contexts, y=sizes, mode="lines+markers", name=name, customdata=list(map(costs.format_bytes, sizes)),
            line=dict(color=colour, dash=dash, width=4 if chosen else 2), marker=dict(symbol=symbol, size=8),
            hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
        ))  # fmt: skip
    size = costs.cache_bytes(model, context, dtype=dtype, key_value_heads=key_value_heads)
    traces.append(go.Scatter(
        x=[context], y=[size], mode="markers", showlegend=False, hoverinfo="skip",
        marker=dict(symbol="circle-open", size=20, color=theme.INK, line=dict(width=3)),
    ))  # fmt: skip
    right, left = dict(xanchor="left", xshift=12, yanchor="top"), dict(xanchor="right", xshift=-12, yanchor="bottom")
    beside = right if context < contexts[-2] else left
    annotations.append(dict(
        text=f"<b>{costs.format_bytes(size)}</b>", x=math.log10(context), y=math.log10(size), showarrow=False,
        font=dict(size=theme.LARGE), bgcolor=theme.PAPER, **beside,
    ))  # fmt: skip
    annotations.append(dict(
        text="80 GB, a whole GPU", x=0, xref="paper", xanchor="left", y=math.log10(memory), yanchor="bottom",
        showarrow=False, font=dict(size=theme.SMALL),
    ))  # fmt: skip
    stroke = dict(color=theme.INK, dash="longdash")
    line = dict(type="line", xref="paper", x0=0, x1=1, y0=memory, y1=memory, line=stroke)
    powers = [2.0**power for power in range(22, 42, 4)]
    return theme.figure(
        *traces, height=400, annotations=annotations, shapes=[line], showlegend=True, margin=dict(l=8, r=16, t=8, b=8),
        xaxis=dict(type="log", title=dict(text="context, tokens"), tickvals=contexts[::2],
                   ticktext=[theme.tokens(each) for each in contexts[::2]], range=[3.55, 6.12]),
        yaxis=dict(type="log", title=dict(text="KV cache"), tickvals=powers, range=[6.5, 12.2],
                   ticktext=[costs.format_bytes(each) for each in powers]),
    )  # fmt: skip


def cache_says(context=131072, key_value_heads=8, dtype="bfloat16", model=costs.LLAMA_8B):
    """`cache` in a sentence."""
    size = costs.cache_bytes(model, context, dtype=dtype, key_value_heads=key_value_heads)
    share = size / costs.HARDWARE["H100 SXM"].memory
    return (
        f"{theme.tokens(context)} tokens with {key_value_heads} key-value head{'s' * (key_value_heads > 1)} in {dtype} "
        f"take {costs.format_bytes(size)}, {theme.significant(share, 2)} times the memory of an 80 GB GPU."
    )


def _kinds(window, sinks, count):
    """0 not seen, 1 seen through the window, 2 seen as a sink: [queries][keys]."""
    position = torch.arange(count)
    near = attention.visible(position, position, window=window)
    seen = attention.visible(position, position, window=window, sinks=sinks)
    return (near.int() + 2 * (seen & ~near).int()).tolist()


def visibility(window=6, sinks=0, tokens=TOKENS):
    """Which keys does each query see? The mask of six tokens, every entry written out."""
    import plotly.graph_objects as go

    kinds, count = _kinds(window, sinks, len(tokens)), len(tokens)
    colours = [theme.GRID, theme.BLUE, theme.ORANGE]
    scale = [[edge / 3, colours[kind]] for kind in range(3) for edge in (kind, kind + 1)]
    place = list(range(count))
    marks = [dict(text=["", "✓", "S"][kind], x=x, y=y, showarrow=False, font=dict(
        size=theme.LARGE, color="#000000" if kind == 2 else "#ffffff")) for y, row in enumerate(kinds)
        for x, kind in enumerate(row) if kind]  # fmt: skip
    grid = go.Heatmap(
        z=kinds, x=place, y=place, zmin=-0.5, zmax=2.5, colorscale=scale, showscale=False, xgap=3, ygap=3,
        hoverinfo="skip",
    )  # fmt: skip
    key = (
        f'<span style="color:{theme.BLUE}">■</span> ✓ in the window  <span style="color:{theme.ORANGE}">■</span> S sink'
        "  □ not seen"
    )
    names = dict(tickvals=place, ticktext=tokens, showgrid=False, ticks="")
    return theme.figure(
        grid, height=380, annotations=[theme.heading(key), *marks],
        xaxis=dict(title=dict(text="key"), constrain="domain", **names),
        yaxis=dict(title=dict(text="query"), scaleanchor="x", autorange="reversed", constrain="domain",
                   domain=[0, 0.93], **names),
    )  # fmt: skip


def visibility_says(window=6, sinks=0, tokens=TOKENS):
    """`visibility` in a sentence."""
    kinds = _kinds(window, sinks, len(tokens))
    last = [token for token, kind in zip(tokens, kinds[-1], strict=True) if kind]
    total = sum(kind > 0 for row in kinds for kind in row)
    return f"{total} of {len(tokens) ** 2} pairs are seen; the last query, “{tokens[-1]}”, sees {', '.join(last)}."


QUERY_HEADS = 8


def _grouped(key_heads):
    """(query heads per key head, cache as a share of multi-head attention's, operations per byte in 16 bits)."""
    group = QUERY_HEADS // key_heads
    return group, 1 / group, 2 * group / costs.BYTES["bfloat16"]


def grouped(key_heads=2):
    """Which key head does each query head read, and what does sharing change? Eight query heads on `key_heads`.

    Raises ValueError unless `key_heads` divides the query heads.
    """
    import plotly.graph_objects as go

    if key_heads < 1 or QUERY_HEADS % key_heads:
        raise ValueError(f"key_heads must divide {QUERY_HEADS}; it is {key_heads}.")
    group, share, intensity = _grouped(key_heads)
    centre = [group * (head + 0.5) - 0.5 for head in range(key_heads)]
    colours = [(theme.BLUE, theme.ORANGE)[head % 2] for head in range(key_heads)]
    inks = {theme.BLUE: "#ffffff", theme.ORANGE: "#000000"}
    lines = [
        go.Scatter(
            x=[query, centre[query // group]], y=[1, 0], mode="lines", hoverinfo="skip",
            line=dict(color=colours[query // group], width=3, dash=("solid", "dot")[query // group % 2]),
        )
        for query in range(QUERY_HEADS)
    ]  # fmt: skip
    heads = [
        ("q{0}", 30, range(QUERY_HEADS), 1, [colours[query // group] for query in range(QUERY_HEADS)]),
        ("k{0}<br>v{0}", 38, centre, 0, colours),
    ]
    boxes = [
        go.Scatter(
            x=list(places), y=[height] * len(places), mode="markers+text", hoverinfo="skip",
            text=[label.format(number) for number in range(len(places))],
            textfont=dict(color=[inks[each] for each in colour], size=theme.NORMAL),
            marker=dict(symbol="square", size=size, color=colour),
        )
        for label, size, places, height, colour in heads
    ]  # fmt: skip
    bars = go.Bar(
        orientation="h", x=[share, intensity / QUERY_HEADS], y=[1, 0], width=0.35, xaxis="x2", yaxis="y2",
        marker=dict(color=theme.BLUE), hoverinfo="skip",
    )  # fmt: skip
    annotations = [
        theme.heading("<b>Query heads</b> and the KV heads that they read"),
        theme.heading("Cache", "2", "left", 1),
        theme.heading(f"<b>{'1' if group == 1 else f'1/{group}'}</b> of MHA's", "2", "right", 1),
        theme.heading("Operations per byte read", "2", "left", 0),
        theme.heading(f"<b>{intensity:g}</b>", "2", "right", 0),
    ]
    hidden = dict(showgrid=False, showticklabels=False, ticks="")
    narrow = {
        "height": 420, "xaxis.domain": [0, 1], "yaxis.domain": [0.5, 0.93], "xaxis2.domain": [0, 1],
        "yaxis2.domain": [0, 0.4],
    }  # fmt: skip
    return theme.figure(
        *lines, *boxes, bars, height=280, annotations=annotations, showlegend=False, meta=dict(narrow=narrow),
        xaxis=dict(domain=[0, 0.6], range=[-0.6, QUERY_HEADS - 0.4], **hidden),
        yaxis=dict(domain=[0, 0.88], range=[-0.35, 1.35], **hidden),
        xaxis2=dict(domain=[0.68, 1], range=[0, 1], anchor="y2", **hidden),
        yaxis2=dict(domain=[0, 0.88], range=[-0.4, 1.7], anchor="x2", **hidden),
    )  # fmt: skip


def grouped_says(key_heads=2):
    """`grouped` in a sentence."""
    group, share, intensity = _grouped(key_heads)
    name = {QUERY_HEADS: "Multi-head attention", 1: "Multi-query attention"}.get(key_heads, "Grouped-query attention")
    read = "its own key-value head" if group == 1 else f"a key-value head that {group} query heads share"
    kept = "all of it" if share == 1 else f"1/{group} of multi-head attention's"
    return (
        f"{name}: each of {QUERY_HEADS} query heads reads {read}. The cache is {kept}; "
        f"in 16 bits a decoded token does {intensity:g} operation{'s' * (intensity != 1)} per byte that it reads."
    )
