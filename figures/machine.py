"""Figures of the machine chapter: the roofline, the levels of memory, the warps that fit on a multiprocessor."""

import math

from effattn_core import costs, machine
from figures import theme
from kernels import inspect

TOKENS = [1 << power for power in range(14)]
MACHINES = {
    "H100 SXM, bfloat16": (costs.HARDWARE["H100 SXM"], "bfloat16"),
    "A100 80GB, bfloat16": (costs.HARDWARE["A100 80GB SXM"], "bfloat16"),
    "laptop (Apple M2), float32": (machine.LAPTOP, "float32"),
}
LOOKS = {
    "linear layer": (theme.BLUE, "circle"),
    "attention, reading a prompt": (theme.GREEN, "square"),
    "attention, writing one token": (theme.VERMILLION, "diamond"),
    "whole decode step, 8K of text each": (theme.ORANGE, "triangle-up"),
}
CONTEXT = 8192
CLEAR = "rgba(0,0,0,0)"


def _works(tokens, dtype):
    """The kinds of work of a step with `tokens` rows, as the figure names them: of one text, or a row per text."""
    element = costs.element_bytes(dtype)
    return {
        "linear layer": machine.linear(tokens, element=element),
        "attention, reading a prompt": machine.prefill_attention(tokens, element=element),
        "attention, writing one token": machine.decode_attention(CONTEXT, element=element),
        "whole decode step, 8K of text each": machine.decode(costs.LLAMA_8B, CONTEXT, texts=tokens, dtype=dtype),
    }


def _rate(value):
    """Operations per second in words: 13.4 TFLOP/s."""
    return f"{costs.format_flops(value)}/s"


def roofline(tokens=64, on="H100 SXM, bfloat16"):
    """When does a step wait for memory? The rate that a roofline allows, over operations per byte; points move with
    the tokens of a step. Raises KeyError for a machine that is not in MACHINES.
    """
    import plotly.graph_objects as go

    hardware, dtype = MACHINES[on]
    point = machine.ridge(hardware, dtype)
    peak, left, right = hardware.peak(dtype), 0.2, 8192.0
    bottom = left * hardware.bandwidth
    traces = [go.Scatter(
        x=[left, point, right], y=[bottom, peak, peak], mode="lines", hoverinfo="skip", showlegend=False,
        line=dict(color=theme.INK, width=3),
    )]  # fmt: skip
    trails = [_works(count, dtype) for count in TOKENS]
    for name, (colour, symbol) in LOOKS.items():
        x = [works[name].intensity for works in trails]
        traces.append(go.Scatter(
            x=x, y=[machine.attainable(each, hardware, dtype) for each in x], mode="markers", showlegend=False,
            marker=dict(color=colour, symbol=f"{symbol}-open", size=6), hoverinfo="skip",
        ))  # fmt: skip
    for name, work in _works(tokens, dtype).items():
        colour, symbol = LOOKS[name]
        reached = machine.attainable(work.intensity, hardware, dtype)
        traces.append(go.Scatter(
            x=[work.intensity], y=[reached], mode="markers", name=name,
            marker=dict(color=colour, symbol=symbol, size=17, line=dict(color=theme.INK, width=2)),
            hovertemplate=f"{name}: %{{x:.3g}} operations per byte, {_rate(reached)}<extra></extra>",
        ))  # fmt: skip
    notes = [
        dict(x=math.log10(point), y=math.log10(bottom / 2), yanchor="bottom", yshift=4, xanchor="left", xshift=6,
             showarrow=False, text=f"<b>ridge: {theme.significant(point)}</b>", font=dict(size=theme.NORMAL)),
        dict(x=math.log10(left), y=math.log10(peak), xanchor="left", yanchor="bottom", xshift=4, yshift=5,
             showarrow=False, text=f"set by memory:<br>{theme.significant(hardware.bandwidth / 1e12)} TB/s",
             align="left", font=dict(size=theme.SMALL)),
        dict(x=math.log10(right), y=math.log10(peak), xanchor="right", yanchor="bottom", yshift=5, showarrow=False,
             text=f"set by computing:<br>{_rate(peak)}", align="right", font=dict(size=theme.SMALL)),
    ]  # fmt: skip
    for rows, text, place in (
        (1, "decode:<br>1 row", dict(xanchor="left", yanchor="top", xshift=8, yshift=2)),
        (4096, "prefill:<br>4,096 rows", dict(xanchor="center", yanchor="top", yshift=-8)),
    ):
        each = machine.linear(rows, element=costs.element_bytes(dtype)).intensity
        notes.append(dict(
            x=math.log10(each), y=math.log10(machine.attainable(each, hardware, dtype)), text=text, showarrow=False,
            align="left", font=dict(size=theme.SMALL), **place,
        ))  # fmt: skip
    edge = dict(type="line", x0=point, x1=point, y0=bottom / 2, y1=peak, line=dict(color=theme.QUIET, dash="dot"))
    powers = [10.0**power for power in range(8, 17) if bottom / 2 <= 10.0**power <= 3 * peak]
    return theme.figure(
        *traces, height=420, shapes=[edge], annotations=notes, showlegend=True, margin=dict(l=8, r=16, t=8, b=8),
        xaxis=dict(type="log", title=dict(text="operations per byte moved"),
                   range=[math.log10(left), math.log10(right)], tickvals=[1, 10, 100, 1000],
                   ticktext=["1", "10", "100", "1,000"]),
        yaxis=dict(type="log", title=dict(text="operations per second, at most"), tickvals=powers,
                   ticktext=[_rate(power).replace("FLOP/s", "") for power in powers],
                   range=[math.log10(bottom / 2), math.log10(5 * peak)]),
        meta=dict(narrow={"height": 460}),
    )  # fmt: skip


def roofline_says(tokens=64, on="H100 SXM, bfloat16"):
    """`roofline` in a sentence."""
    hardware, dtype = MACHINES[on]
    parts, peak = [], hardware.peak(dtype)
    for name, work in _works(tokens, dtype).items():
        reached = machine.attainable(work.intensity, hardware, dtype)
        limit = "memory" if reached < peak else "computing"
        share = theme.significant(100 * reached / peak, 2)
        parts.append(f"{name} {theme.significant(work.intensity)}, set by {limit}, at most {share} % of the peak")
    rows = f"{tokens:,} row{'s' * (tokens > 1)} per step on {on}"
    point = theme.significant(machine.ridge(hardware, dtype))
    return f"{rows}; the ridge is at {point}. Operations per byte: {'; '.join(parts)}."


DATA = {
    "a tile of 64 keys": 64 * 128 * 2,
    "the keys of one head, 8K tokens": 8192 * 128 * 2,
    "one 4096 × 4096 weight": 4096 * 4096 * 2,
    "the KV cache of 8K tokens": costs.cache_bytes(costs.LLAMA_8B, 8192),
    "the weights of Llama 3 8B": 2 * costs.LLAMA_8B.parameters,
    "the weights of a 70B model": 2 * 70_000_000_000,
}


def hierarchy(data="one 4096 × 4096 weight", on="H100 SXM"):
    """Which level of memory can hold it, and how fast is that level? Sizes and rates on logarithmic axes."""
    import plotly.graph_objects as go

    levels, size = machine.HIERARCHIES[on], DATA[data]
    rows = list(reversed(range(len(levels))))  # the row of each level: the nearest is on top
    fits = [size <= level.whole for level in levels]
    colours = [theme.BLUE if fit else theme.GRID for fit in fits]
    outline = dict(color=theme.INK, width=1)
    known = [(row, level, colour) for row, level, colour in zip(rows, levels, colours, strict=True) if level.bandwidth]
    traces = [
        go.Bar(orientation="h", x=[level.whole for level in levels], y=rows, width=0.4, hoverinfo="skip",
               marker=dict(color=colours, line=outline)),
        go.Bar(orientation="h", x=[level.bandwidth for _, level, _ in known], y=[row for row, _, _ in known],
               width=0.4, xaxis="x2", yaxis="y2",
               hoverinfo="skip", marker=dict(color=[colour for _, _, colour in known], line=outline)),
    ]  # fmt: skip
    notes = []
    for row, level, fit in zip(rows, levels, fits, strict=True):
        mark = "✓" if fit else "✕"
        notes.append(theme.heading(f"{mark} <b>{level.name}</b>", "", "left", row))
        notes.append(theme.heading(size_words(level), "", "right", row))
        notes.append(theme.heading(_speed(level), "2", "left", row))
    line = dict(
        type="line", x0=size, x1=size, y0=-0.35, y1=len(levels) - 0.3, line=dict(color=theme.VERMILLION, width=3)
    )
    sizes = [1e3, 1e6, 1e9, 1e12]
    rates = [1e11, 1e12, 1e13]
    vertical = dict(range=[-0.5, len(levels) - 0.25], showticklabels=False, showgrid=False, ticks="")
    height = 90 + 78 * len(levels)
    return theme.figure(
        *traces, height=height, showlegend=False, annotations=notes, shapes=[line],
        xaxis=dict(type="log", domain=[0, 0.56], range=[3, 12], tickvals=sizes,
                   title=dict(text="bytes; the line: the data"), ticktext=["1 kB", "1 MB", "1 GB", "1 TB"]),
        yaxis=vertical,
        xaxis2=dict(type="log", domain=[0.62, 1], range=[10.5, 13.8], tickvals=rates, anchor="y2",
                    ticktext=["0.1 TB/s", "1 TB/s", "10 TB/s"], title=dict(text="bytes per second; cycles to wait")),
        yaxis2=dict(anchor="x2", **vertical),
        meta=dict(narrow={
            "height": 2 * height + 40, "xaxis.domain": [0, 1], "xaxis2.domain": [0, 1], "yaxis.domain": [0.56, 1],
            "yaxis2.domain": [0, 0.42],
        }),
    )  # fmt: skip


def size_words(level):
    """How large a level is: one copy, and all of them where there are several."""
    each = costs.format_bytes(level.size) if level.size < 1 << 20 else f"{theme.significant(level.size / 1e6)} MB"
    if level.size >= 1e9:
        each = f"{theme.significant(level.size / 1e9)} GB"
    return each if level.copies == 1 else f"{level.copies} × {each} = {costs.format_bytes(level.whole)}"


def _speed(level):
    if level.bandwidth is None:
        return f"{level.name}: no published rate"
    wait = "" if level.cycles is None else f", {level.cycles:.0f} cycles"
    return f"{level.name}: {theme.significant(level.bandwidth / 1e12)} TB/s{wait}"


def hierarchy_says(data="one 4096 × 4096 weight", on="H100 SXM"):
    """`hierarchy` in a sentence."""
    levels, size = machine.HIERARCHIES[on], DATA[data]
    holding = [level.name for level in levels if size <= level.whole]
    amount = costs.format_bytes(size)
    last = levels[-1]
    if not holding:
        return f"{data[:1].upper()}{data[1:]}, {amount}, fit nowhere on this machine: even {last.name} is too small."
    where = " and ".join(filter(None, (", ".join(holding[:-1]), holding[-1])))
    seconds = size / last.bandwidth
    return (
        f"{data[:1].upper()}{data[1:]}: {amount}. Level{'s' * (len(holding) > 1)} with room for all of it: {where}. "
        f"Reading it once from {last.name} takes {_seconds(seconds)}."
    )


def _seconds(value):
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if value >= size:
            return f"{theme.significant(value / size)} {unit}"
    return f"{theme.significant(value * 1e9)} ns"


REGISTERS = [32, 64, 96, 128, 168, 192, 255]
SHARED = [0, 16, 32, 64, 100, 160, 227]


def resident(registers=128, warps=4, shared=32):
    """How many warps fit on a multiprocessor of an H100? Its 64 places, filled program by program.

    registers: per thread; warps: per program; shared: KiB of shared memory per program.
    """
    import plotly.graph_objects as go

    share, _ = inspect.occupancy(registers, shared << 10, warps, 90)
    filled, places = round(share * 64), 64
    kinds = [0 if place >= filled else 1 + place // warps % 2 for place in range(places)]
    colours = [theme.GRID, theme.BLUE, theme.GREEN]
    scale = [[edge / 3, colours[kind]] for kind in range(3) for edge in (kind, kind + 1)]
    notes = [
        dict(x=place % 16, y=place // 16, text=str(place // warps + 1), showarrow=False,
             font=dict(size=theme.SMALL, color="#000000" if place // warps % 2 else "#ffffff"))
        for place in range(filled)
    ]  # fmt: skip
    key = f"<b>{filled} of 64 warps</b>, numbered by program"
    return theme.figure(
        go.Heatmap(z=[kinds[row * 16 : row * 16 + 16] for row in range(4)], zmin=-0.5, zmax=2.5, colorscale=scale,
                   showscale=False, xgap=3, ygap=3, hoverinfo="skip"),
        height=260, annotations=[theme.heading(key), *notes],
        xaxis=dict(showticklabels=False, showgrid=False, ticks=""),
        yaxis=dict(autorange="reversed", showticklabels=False, showgrid=False, ticks="", domain=[0, 0.88]),
    )  # fmt: skip


def resident_says(registers=128, warps=4, shared=32):
    """`resident` in a sentence."""
    share, limit = inspect.occupancy(registers, shared << 10, warps, 90)
    programs = round(share * 64) // warps
    kernel = f"With {registers} registers per thread and {shared} KiB of shared memory per program,"
    size = f"of {warps} warp{'s' * (warps > 1)}"
    if not programs:
        return (
            f"{kernel} not even one program {size} fits: {limit} do not suffice. The launch fails, or registers spill."
        )
    fit = "1 program" if programs == 1 else f"{programs} programs"
    return (
        f"{kernel} {fit} {size} fit{'s' * (programs == 1)}: {round(share * 64)} of 64 warps, an occupancy "
        f"of {share:.0%}. The limit: {limit}."
    )
