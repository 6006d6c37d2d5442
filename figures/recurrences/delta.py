"""Figures of the delta rule: a state of two numbers and its path, what a hybrid recalls, what it keeps."""

import functools
from statistics import fmean

from effattn_core import costs
from effattn_core.recurrences.costs import hybrid_kept
from figures import theme

VALUES = (10.0, 20.0)  # what the keys A and B are to read
LEANINGS = (0.0, 0.6, 0.9)  # cosines between the keys
RATES = (0.5, 1.0, 1.5, 2.0)
WRITES = 4  # A, B, A, B


def keys(leaning):
    """The keys A and B, of length 1, in a plane: (1, 0), and one whose cosine with it is `leaning`."""
    return (1.0, 0.0), (leaning, (1 - leaning**2) ** 0.5)


@functools.cache
def path(rule, leaning=0.6, beta=1.0, writes=WRITES):
    """The states, pairs of numbers, before and after each write of A and B by turns. rule: "delta" or "sum"."""
    state, states = (0.0, 0.0), [(0.0, 0.0)]
    for write in range(writes):
        key, value = keys(leaning)[write % 2], VALUES[write % 2]
        held = _dot(key, state) if rule == "delta" else 0.0
        amount = beta * (value - held)
        state = (state[0] + amount * key[0], state[1] + amount * key[1])
        states.append(state)
    return states


def _dot(one, other):
    return one[0] * other[0] + one[1] * other[1]


def reads(rule, leaning, beta, step):
    """What the keys A and B read after `step` writes."""
    state = path(rule, leaning, beta)[step]
    return tuple(_dot(key, state) for key in keys(leaning))


FRAME = ((-13.0, 47.0), (-5.0, 41.0))  # of the plane that is drawn


def _clipped(start, end):
    """The part of a stretch that lies in the frame, as (start, end); None where none does. (Liang and Barsky)"""
    first, last = 0.0, 1.0
    for begin, stop, (low, high) in zip(start, end, FRAME, strict=True):
        way = stop - begin
        if way == 0:
            if not low <= begin <= high:
                return None
            continue
        near, far = sorted(((low - begin) / way, (high - begin) / way))
        first, last = max(first, near), min(last, far)
    if first > last:
        return None
    return tuple(
        tuple(begin + share * (stop - begin) for begin, stop in zip(start, end, strict=True)) for share in (first, last)
    )


def _line(key, value):
    """Both ends, within the frame, of the line of all states at which the key reads the value."""
    across, middle = (-key[1], key[0]), (value * key[0], value * key[1])
    return _clipped(*(tuple(middle[at] + far * across[at] for at in (0, 1)) for far in (-90, 90)))


def _drawn(states):
    """(points, sizes of their marks): states until the path leaves the frame, at whose edge it then ends unmarked."""
    points, sizes = [states[0]], [8]
    for start, end in zip(states, states[1:], strict=False):
        if _clipped(end, end):
            points.append(end)
            sizes.append(8)
        else:
            return [*points, _clipped(start, end)[1]], [*sizes, 0]
    return points, [*sizes[:-1], 14]


def plane(step=2, leaning=0.6, beta=1.0):
    """How does a state of two numbers move? Lines: where A reads 10, where B reads 20; the paths of two rules."""
    import plotly.graph_objects as go

    traces = []
    for name, key, value, colour in zip("AB", keys(leaning), VALUES, (theme.BLUE, theme.VERMILLION), strict=True):
        x, y = zip(*_line(key, value), strict=True)
        traces.append(go.Scatter(x=x, y=y, name=f"here {name} reads {value:g}", mode="lines", hoverinfo="skip",
                                 line=dict(color=colour, width=2, dash="dot" if name == "A" else "dash")))  # fmt: skip
    for rule, label, colour, symbol in (
        ("sum", "the sum", theme.QUIET, "square"), ("delta", "the delta rule", theme.GREEN, "circle"),
    ):  # fmt: skip
        points, sizes = _drawn(path(rule, leaning, beta)[: step + 1])
        traces.append(
            go.Scatter(
                x=[each[0] for each in points], y=[each[1] for each in points], name=label, mode="lines+markers",
                line=dict(color=colour, width=3), marker=dict(symbol=symbol, size=sizes),
                hovertemplate="state (%{x:.3g}, %{y:.3g})<extra>" + label + "</extra>",
            )
        )  # fmt: skip
    notes = [
        dict(x=14 * key[0], y=14 * key[1], ax=0, ay=0, xref="x", yref="y", axref="x", ayref="y", showarrow=True,
             arrowhead=2, arrowwidth=2, arrowcolor=colour, text="")
        for key, colour in zip(keys(leaning), (theme.BLUE, theme.VERMILLION), strict=True)
    ]  # fmt: skip
    notes += [
        dict(x=16.5 * key[0] if name == "B" else 14, y=16.5 * key[1] if name == "B" else -2.2, text=f"key {name}",
             showarrow=False, font=dict(size=theme.NORMAL, color=colour))
        for name, key, colour in zip("AB", keys(leaning), (theme.BLUE, theme.VERMILLION), strict=True)
    ]  # fmt: skip
    return theme.figure(
        *traces, height=480, showlegend=True, annotations=notes,
        xaxis=dict(range=list(FRAME[0]), title=dict(text="first number of the state"), constrain="domain"),
        yaxis=dict(range=list(FRAME[1]), title=dict(text="second number"), scaleanchor="x", constrain="domain"),
        meta=dict(narrow={"height": 440}),
    )  # fmt: skip


def _number(value):
    return theme.significant(0.0 if abs(value) < 1e-9 else value).replace("-", "−")


def step_words(step):
    """What was written, beside the slider."""
    return "nothing yet" if step == 0 else ", ".join("AB"[at % 2] for at in range(step))


def plane_says(step=2, leaning=0.6, beta=1.0):
    """`plane` in a sentence: what both keys read by both rules."""
    if step == 0:
        return "Nothing is written yet, and both keys read 0."
    parts = []
    for rule, label in (("delta", "the delta rule"), ("sum", "the sum")):
        first, second = reads(rule, leaning, beta, step)
        parts.append(f"by {label} A reads {_number(first)} and B {_number(second)}")
    return (
        f"Keys with the cosine {leaning:g}, writes of strength {beta:g}, written {step_words(step)}: "
        f"{'; '.join(parts)}. Wanted are {VALUES[0]:g} and {VALUES[1]:g}."
    )


# ---- hybrids ----

RULES_WORDS = {"gated_delta": "the gated delta rule", "mamba2": "Mamba-2"}
PLACES = ("nowhere", 0, 1, 2, 3)  # of the one layer that attends


def _arm(rows, rule, layer):
    """{pairs: the recalls of all seeds} of one arm of the recording."""
    found = {}
    for row in rows:
        if row["what"] == "recall" and (row["name"], row["layer"]) == (rule, layer):
            found.setdefault(row["pairs"], []).append(row["accuracy"])
    return dict(sorted(found.items()))


def _arms(rows, rule, place):
    """(name, {pairs: recalls}) of what is drawn."""
    from effattn_core.recurrences import RULES

    title = RULES[rule].title
    arms = [("softmax attention, all layers", _arm(rows, "softmax", "all"))]
    arms += [(f"{title}, all", _arm(rows, rule, None))]
    return arms + ([] if place == "nowhere" else [(f"{title}, attention in one", _arm(rows, rule, place))])


def hybrid(rows, rule="gated_delta", place=1):
    """What does one layer of attention add? Recall by pairs, mean of the seeds and their range; rows: the recording."""
    import plotly.graph_objects as go

    from figures.measured import looks

    arms = _arms(rows, rule, place)
    traces = []
    for (label, found), (_, colour, dash, symbol) in zip(arms, looks([name for name, _ in arms]), strict=True):
        means = [fmean(each) for each in found.values()]
        traces.append(
            go.Scatter(
                x=[str(pairs) for pairs in found], y=means, name=label, mode="lines+markers",
                error_y=dict(array=[max(each) - mean for each, mean in zip(found.values(), means, strict=True)],
                             arrayminus=[mean - min(each) for each, mean in zip(found.values(), means, strict=True)],
                             symmetric=False, width=5, color=colour),
                line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=10),
                hovertemplate="%{x} pairs: %{y:.0%}<extra>" + label + "</extra>",
            )
        )  # fmt: skip
    return theme.figure(
        *traces, height=380, showlegend=True,
        xaxis=dict(title=dict(text="pairs in the text"), type="category"),
        yaxis=dict(title=dict(text="answered right"), range=[0, 1.05], tickformat=".0%"),
        meta=dict(narrow={"height": 440}),
    )  # fmt: skip


def place_words(place):
    """Where the attention stands, beside its control."""
    return "nowhere" if place == "nowhere" else f"layer {place + 1} of {len(PLACES) - 1}"


def hybrid_says(rows, rule="gated_delta", place=1):
    """`hybrid` in a sentence: every line at the fewest and the most pairs."""
    parts = []
    for label, found in _arms(rows, rule, place):
        (few, first), *_, (many, last) = found.items()
        parts.append(f"{label}: {fmean(first):.0%} of {few} pairs and {fmean(last):.0%} of {many}")
    return f"Recall in the mean of the seeds, attention in {place_words(place)}. {'; '.join(parts)}."


CONTEXTS = (4096, 32768, 131072, 1048576)
DESIGNS = (
    ("attention in every layer", 1),
    ("in one of four", 4),
    ("in one of eight", 8),
    ("in none", None),
)


def kept(context=131072):
    """What does a conversation keep? Cache and states, by how many layers attend, in the sizes of the bill."""
    import plotly.graph_objects as go

    names = [name for name, _ in DESIGNS]
    found = [hybrid_kept(context, every) for _, every in DESIGNS]
    traces = [
        go.Bar(y=names, x=[each[part] / 2**30 for each in found], name=label, orientation="h", width=0.55,
               marker=theme.hatched(colour, shape), hovertemplate="%{x:.3g} GiB<extra>" + label + "</extra>")
        for part, (label, colour, shape) in enumerate(
            (("keys and values of every token", theme.VERMILLION, ""), ("states", theme.BLUE, "/")))
    ]  # fmt: skip
    most = max(map(sum, found))
    notes = [
        dict(x=sum(each) / 2**30, y=name, text=f" {costs.format_bytes(sum(each))}", xanchor="left", showarrow=False,
             font=dict(size=theme.NORMAL))
        for name, each in zip(names, found, strict=True)
    ]  # fmt: skip
    return theme.figure(
        *traces, height=270, barmode="stack", showlegend=True, annotations=notes,
        xaxis=dict(range=[0, 1.3 * most / 2**30], title=dict(text="GiB kept")), yaxis=dict(autorange="reversed"),
        meta=dict(narrow={"height": 300}),
    )  # fmt: skip


def kept_says(context=131072):
    """`kept` in a sentence."""
    parts = []
    for name, every in DESIGNS:
        cache, states = hybrid_kept(context, every)
        parts.append(f"{name} {costs.format_bytes(cache + states)}, {costs.format_bytes(states)} of it states")
    return f"At {theme.tokens(context)} tokens: {'; '.join(parts)}."
