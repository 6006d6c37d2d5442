"""The bill that every chapter works on: what one long conversation costs, what a chapter moved, what is left.

Bars are linear, and every page and every slider state has the same scale, so that a bar twice as long is twice as much.
What does not fit on it runs to the edge, with an arrow and how many widths it would take.
"""

from effattn_core import bill as source
from effattn_core import costs
from figures import theme

# Pixels: of a line with its name and note, of the second row of a note, of a panel's axis, of the legend on a phone.
ROW, MORE, AXIS, KEY, BAR = 62, 15, 50, 52, 20
SHORT = {
    "Operations to read the prompt": "Reading the prompt",
    "Idle behind the fullest expert": "Idle behind the fullest",
    "Operations to draw an image": "Drawing an image",
}  # names that meet their values on a phone
GIB, CARD = 2.0**30, costs.HARDWARE["H100 SXM"]
# What the bars of a panel are measured on: (the lines, unit, end of the axis, ticks, title). Scores are so much larger
# than everything kept that they have a scale of their own.
PANELS = (
    (("prefill", "experts", "image"), "FLOP", 8e15, [0, 2e15, 4e15, 6e15, 8e15], "operations"),
    (("scores",), "B", 1200 * GIB, [0, 256 * GIB, 512 * GIB, 768 * GIB, 1024 * GIB], "bytes of one layer's scores"),
    (("weights", "cache", "decode", "head", "optimizer"), "B", 80 * GIB, [0, 20 * GIB, 40 * GIB, 60 * GIB, 80 * GIB],
     "bytes; dotted: the 80 GB of one H100"),
)  # fmt: skip
# The colour of the part that the text causes, and a paler one of the part that weights cause.
LOWERED, LEFT = (theme.BLUE, "rgba(0,114,178,0.4)"), ("#8C8C8C", "rgba(140,140,140,0.4)")


def after(topic, context=source.CONTEXT):
    """The bill of a topic's design, hollow what it was before that chapter; blue what is lowered so far, grey the rest.

    A grey line names the chapter that lowers it. Raises ValueError for a topic without a stage of the bill.
    """
    now, before = source.lines(topic, context), source.before(topic, context)
    notes = {key: _note(topic, key, line, context) for key, line in now.items()}
    return _draw(now, before, source.first(topic, context), notes)


def after_says(topic, context=source.CONTEXT):
    """`after` in a sentence: the lines, and what they were. What was paid for it is in `after_caption`."""
    now, before = source.lines(topic, context), source.before(topic, context)
    found = source.stage(topic)
    return f"At {theme.tokens(context)} tokens, {found.design}: {_says(now, before)}"


def after_caption(topic, context=source.CONTEXT):
    """A caption for `after`: the design, what the chapter moved, from what to what, and what it cost."""
    found = source.stage(topic)
    on = source.stage(found.on).design if found.on else "a key head per query head, scores stored"
    return (
        f"The bill at {theme.tokens(context)} tokens of {found.design}; hollow, where it differs, of {on}. "
        f"*Moved:* {source.moves(topic, context)}. *Paid for it:* {found.cost}"
    )


def _note(topic, key, line, context):
    """Under a bar, in two rows where there are two parts: the parts; which chapters lowered the line, or will."""
    lowered, other = source.lowered_by(topic, key, context), source.lowered_elsewhere(topic, key, context)
    if lowered:
        by = "lowered by " + ", ".join(each.method for each in lowered)
    elif other is None:
        by = "lowered by no chapter of this edition"
    elif other.place > source.stage(topic).place:
        by = f"{other.method} will lower it"
    else:
        by = f"{other.method} lowers it, in another model"
    return _joined(line, by)


def _joined(line, text):
    return "<br>".join(filter(None, (line.split, text)))


def _says(now, before):
    parts = (
        f"{new.name} {new.amount()}"
        + ("" if new.amount() == before[key].amount() else f" (was {before[key].amount()})")
        for key, new in now.items()
    )
    return "; ".join(parts) + "."


def _draw(now, before, first, notes):
    """One panel per scale. now, before, first: lines by key; a part is blue where it is smaller than in `first`."""
    traces, annotations, settings, shapes = _legend(), [], {}, []
    panels = [(tuple(key for key in keys if key in now), *rest) for keys, *rest in PANELS]
    heights = [AXIS + sum(_height(now[key], end) for key in keys) for keys, _, end, *_ in panels]
    height = sum(heights) + KEY
    top = height - KEY
    for number, ((keys, unit, end, ticks, title), pixels) in enumerate(zip(panels, heights, strict=True), 1):
        axis, y = "" if number == 1 else str(number), pixels - AXIS  # y: in pixels from the panel's foot
        for key in keys:
            y -= _height(now[key], end)
            place = axis, y + _height(now[key], end) - 32  # the middle of the bar
            traces += _bars(now[key], before[key], first[key], end, *place)
            annotations += _texts(now[key], before[key], notes[key], end, *place)
            if key in ("weights", "cache"):
                shapes.append(_card(*place))
        text = costs.format_flops if unit == "FLOP" else costs.format_bytes
        settings[f"xaxis{axis}"] = dict(
            anchor=f"y{axis}", range=[0, end], tickvals=ticks, ticktext=["0", *map(text, ticks[1:])],
            title=dict(text=title, standoff=2, font=dict(size=theme.SMALL)),
        )  # fmt: skip
        domain = [(top - pixels + AXIS) / height, top / height]
        settings[f"yaxis{axis}"] = dict(
            anchor=f"x{axis}", domain=domain, range=[0, pixels - AXIS], showticklabels=False, showgrid=False
        )
        top -= pixels
    narrow = {f"annotations.{i}.font.size": theme.SMALL for i in range(len(annotations))}
    long = (i for i, each in enumerate(annotations) if each["text"] in SHORT)
    narrow |= {f"annotations.{i}.text": SHORT[annotations[i]["text"]] for i in long}
    narrow |= {"margin.l": 12, "margin.r": 14}
    return theme.figure(
        *traces, height=height, annotations=annotations, shapes=shapes, barmode="overlay", showlegend=True,
        margin=dict(l=18, r=22, t=0, b=0), legend=dict(y=1, yanchor="top", x=0, itemclick=False, itemdoubleclick=False),
        meta=dict(narrow=narrow), **settings,
    )  # fmt: skip


def _height(line, end):
    """Room for a line whose note has two rows: for its two parts, or where weights alone run on past the axis."""
    return ROW + MORE if line.split or (not line.text and line.value > end) else ROW


def _card(axis, y):
    """The memory of one card, as a tick through a bar of what is kept."""
    place = dict(x0=CARD.memory, x1=CARD.memory, y0=y - BAR / 2 - 3, y1=y + BAR / 2 + 3)
    return dict(type="line", xref=f"x{axis}", yref=f"y{axis}", line=dict(color=theme.INK, width=2, dash="dot"), **place)


HOLLOW = dict(color="rgba(0,0,0,0)", line=dict(color=theme.INK, width=1.5))


def _legend():
    """What the looks mean: traces without a bar."""
    import plotly.graph_objects as go

    looks = {
        "lowered so far": dict(color=LOWERED[0]),
        "not lowered": dict(color=LEFT[0]),
        "paler: weights": dict(color=LEFT[1]),
        "hollow: before": HOLLOW,
    }
    return [
        go.Bar(x=[None], y=[0], orientation="h", name=name, marker=marker, hoverinfo="skip", showlegend=True)
        for name, marker in looks.items()
    ]


def _bars(now, before, first, end, axis, y):
    """The weights' part, then the text's, both cut at the axis' end; over them, hollow, what was paid before."""
    import plotly.graph_objects as go

    place = dict(orientation="h", y=[y], width=BAR, xaxis=f"x{axis}", yaxis=f"y{axis}", showlegend=False)
    told = f"<b>{now.name}: {now.amount()}</b><br>{_wrapped(now.explanation)}<extra></extra>"
    bars, base = [], 0
    for value, was, pale in ((now.weights, first.weights, 1), (now.text, first.text, 0)):
        color = (LOWERED if value < was else LEFT)[pale]
        length = min(value, end - base)
        bars.append(go.Bar(x=[length], base=[base], marker=dict(color=color), hovertemplate=told, **place))
        base += length
    was = min(before.value, end) if before.amount() != now.amount() else None
    return [*bars, go.Bar(x=[was], marker=HOLLOW, hoverinfo="skip", **place)]


def _texts(now, before, note, end, axis, y):
    """Over a bar its name and value, and what it was; under it the note; at its end an arrow if it runs on."""
    value = f"<b>{now.amount()}</b>" + ("" if now.amount() == before.amount() else f", was {before.amount()}")
    texts = [
        _text(now.name, "left", axis, y + BAR / 2 + 1, "bottom"),
        _text(value, "right", axis, y + BAR / 2 + 1, "bottom"),
    ]
    if now.value > end:
        note = "<br>".join(filter(None, (f"runs on to {theme.significant(now.value / end, 2)} × this width", note)))
        arrow = dict(text="▶", x=1, xref=f"x{axis} domain", xanchor="left", y=y, yref=f"y{axis}", yanchor="middle")
        texts.append(dict(showarrow=False, font=dict(size=theme.NORMAL, color=theme.INK), **arrow))
    small = dict(size=theme.SMALL, color=theme.QUIET)
    return [*texts, _text(note, "left", axis, y - BAR / 2 - 1, "top") | dict(font=small)]


def _text(text, side, axis, y, anchor):
    return theme.heading(text, axis, side, 0) | dict(y=y, yanchor=anchor, yshift=0)


def _wrapped(text, width=48):
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


CONTEXTS = [1 << power for power in range(12, 21)]
HEADS = [32, 8, 1]
DTYPES = ["bfloat16", "float8", "int4"]
LABELS = dict(context="context", key_value_heads="key heads", dtype="number format of the cache")


def heads_words(count):
    """A number of key heads for Llama 3 8B's 32 query heads, and the name of that arrangement."""
    kind = {32: "MHA, one per query head", 8: "GQA, one for four", 1: "MQA, one for all"}
    return f"{count} ({kind[count]})" if count in kind else str(count)


def beside(now, first):
    """Lines of any design (key -> Line); hollow: those of the other. A line that the other lacks stands alone."""
    return _draw(now, now | first, now | first, {key: _joined(line, "") for key, line in now.items()})


def beside_says(now, first):
    """`beside` in a sentence, without its beginning: the lines, and what they were."""
    return _says(now, now | first)


def conversation(context=source.CONTEXT, key_value_heads=32, dtype="bfloat16"):
    """The bill of one conversation of `context` tokens; hollow: the one that the book starts from."""
    return beside(source.start(context, key_value_heads=key_value_heads, dtype=dtype), source.start())


def conversation_says(context=source.CONTEXT, key_value_heads=32, dtype="bfloat16"):
    """`conversation` in a sentence."""
    said = beside_says(source.start(context, key_value_heads=key_value_heads, dtype=dtype), source.start())
    return f"At {theme.tokens(context)} tokens, {heads_words(key_value_heads)}, {dtype}: {said}"
