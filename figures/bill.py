"""The bill that every chapter works on: six lines of what one long conversation costs, before and after."""

import math

from effattn_core import costs
from figures import theme

ROW, AXIS, HEAD = 46, 44, 34  # pixels: of a line, of a panel's axis, of the legend
# What a bar is measured on, by unit: its first and last value, and the ticks. Bytes and FLOP are logarithmic.
SCALES = {
    "FLOP": (1e12, 1e19, [10.0**power for power in range(12, 20, 2)]),
    "B": (2.0**22, 2.0**41, [2.0**power for power in (24, 30, 34, 40)]),
    "×": (0.0, 2.0, [0.0, 1.0, 2.0]),
}
TITLES = {"FLOP": "operations, logarithmic", "B": "bytes, logarithmic", "×": "times the mean load (1 is even)"}


def build(lines, baseline=None):
    """The lines of `effattn_core.costs.bill` as bars, one panel a unit; `baseline`: the same lines before a change.

    Each line stands over its bar like on a receipt, with its value; where it changed, "was" and the value before.
    Raises ValueError if the baseline has not the same lines.
    """
    lines, before = list(lines), list(lines if baseline is None else baseline)
    if [line.key for line in lines] != [line.key for line in before]:
        raise ValueError(
            f"baseline must have the lines {', '.join(line.key for line in lines)}; "
            f"it has {', '.join(line.key for line in before)}."
        )
    units = list(dict.fromkeys(line.unit for line in lines))
    heights = [ROW * sum(line.unit == unit for line in lines) + AXIS for unit in units]
    height = sum(heights) + HEAD
    traces, annotations, settings, top = [], [], {}, height - HEAD
    for number, (unit, pixels) in enumerate(zip(units, heights, strict=True), 1):
        pairs = [(new, old) for new, old in zip(lines, before, strict=True) if new.unit == unit]
        axis = "" if number == 1 else str(number)
        traces += _bars(pairs, axis, baseline is not None, first=number == 1)
        for row, (new, old) in enumerate(reversed(pairs)):
            annotations.append(theme.heading(new.name, axis, "left", row))
            annotations.append(theme.heading(_amount(new, old), axis, "right", row))
        domain = [(top - pixels + AXIS) / height, top / height]
        settings[f"xaxis{axis}"] = dict(
            anchor=f"y{axis}", **_scale(unit, [line.value for pair in pairs for line in pair])
        )
        settings[f"yaxis{axis}"] = dict(
            anchor=f"x{axis}", domain=domain, range=[-0.5, len(pairs) - 0.3], showticklabels=False, showgrid=False
        )
        top -= pixels
    # On a phone a name and two values share a line: a pixel smaller, they fit.
    narrow = {f"annotations.{i}.font.size": theme.SMALL for i in range(len(annotations))}
    narrow |= {"margin.l": 12, "margin.r": 14}
    margin = dict(l=18, r=18, t=0, b=0)
    legend = dict(y=1, yanchor="top", x=0)
    return theme.figure(
        *traces, height=height, annotations=annotations, barmode="overlay", margin=margin, legend=legend,
        meta=dict(narrow=narrow), showlegend=baseline is not None, **settings,
    )  # fmt: skip


def _amount(new, old):
    return f"<b>{new.text}</b>" if new.text == old.text else f"<b>{new.text}</b>, was {old.text}"


def _bars(pairs, axis, compared, first):
    """Solid bars of what is paid now; over them, hatched and hollow, what was paid before where that differs."""
    import plotly.graph_objects as go

    rows = list(range(len(pairs)))[::-1]
    shared = dict(orientation="h", y=rows, width=0.42, xaxis=f"x{axis}", yaxis=f"y{axis}", showlegend=first)
    told = [[new.name, new.text, _wrapped(new.explanation)] for new, _ in pairs]
    now = go.Bar(
        x=[new.value for new, _ in pairs], name="now", marker=dict(color=theme.BLUE), customdata=told,
        hovertemplate="<b>%{customdata[0]}: %{customdata[1]}</b><br>%{customdata[2]}<extra></extra>", **shared,
    )  # fmt: skip
    if not compared:
        return [now]
    pattern = dict(shape="/", fgcolor=theme.INK, bgcolor="rgba(0,0,0,0)", size=7, solidity=0.2)
    marker = dict(color="rgba(0,0,0,0)", line=dict(color=theme.INK, width=1.5), pattern=pattern)
    return [
        now,
        go.Bar(
            x=[old.value if old.text != new.text else None for new, old in pairs],
            name="before",
            marker=marker,
            hoverinfo="skip",
            **shared,
        ),
    ]


def _scale(unit, values):
    """The axis of a unit, stretched where a value lies outside it."""
    low, high, ticks = SCALES[unit]
    high, texts = max([high, *values]), {"FLOP": costs.format_flops, "B": costs.format_bytes, "×": "{:g}×".format}
    axis = dict(
        tickvals=ticks, ticktext=[texts[unit](tick) for tick in ticks],
        title=dict(text=TITLES[unit], standoff=2, font=dict(size=theme.SMALL)),
    )  # fmt: skip
    if unit == "×":
        return dict(range=[low, high], **axis)
    low = min([low, *(value for value in values if value > 0)])
    return dict(type="log", range=[math.log10(low), math.log10(high)], **axis)


def _wrapped(text, width=48):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def says(lines, baseline=None):
    """The bill in a sentence, for those who do not see it."""
    before = lines if baseline is None else baseline
    parts = (
        f"{new.name} {new.text}" + ("" if new.text == old.text else f" (before {old.text})")
        for new, old in zip(lines, before, strict=True)
    )
    return "; ".join(parts) + "."


CONTEXTS = [1 << power for power in range(12, 21)]
HEADS = [32, 8, 1]
DTYPES = ["bfloat16", "float8", "int4"]


def heads_words(count):
    """A number of key heads in Llama 3 8B's 32 query heads, and the name of that arrangement."""
    kind = {32: "MHA, one a query head", 8: "GQA, one for four", 1: "MQA, one for all"}
    return f"{count} ({kind[count]})" if count in kind else str(count)


def conversation(context=131072, key_value_heads=8, dtype="bfloat16"):
    """The bill of one conversation of `context` tokens with Llama 3 8B: hatched, at 128K with 8 heads in bfloat16."""
    return build(_conversation(context, key_value_heads, dtype), costs.bill())


def conversation_says(context=131072, key_value_heads=8, dtype="bfloat16"):
    """`conversation` in a sentence."""
    return f"At {theme.tokens(context)} tokens: " + says(_conversation(context, key_value_heads, dtype), costs.bill())


def _conversation(context, key_value_heads, dtype):
    return costs.bill(costs.LLAMA_8B, context, dtype=dtype, key_value_heads=key_value_heads)
