"""Figures of the recurrences chapter: the table of rules, a small memory, its capacity, and gates on a sentence.

Every number comes from `effattn_core.recurrences` in float64. The map of the field is in `figures.recurrences.map`.
"""

import functools
import html

import torch

from effattn_core.recurrences import RULES, recurrence
from effattn_core.recurrences.recall import memory_recall, read, written
from figures import theme
from figures.measured import looks

NAMES = "ABCD"
PROGRAM = (("A", 1.0), ("B", 2.0), ("C", 3.0), ("D", 2.0), ("A", 4.0))  # what is written; A twice
LEANING = 0.5  # cosine between any two keys that are not at right angles
KEYS = ("at right angles", "leaning")


class MathTable(theme.Table):
    """A table whose cells in `formulas` columns are TeX: set by MathJax on the page and in JupyterLab."""

    formulas = ("keeps", "writes", "reads")

    def to_html(self):
        marked, known = [], {}
        for row in self.rows:
            marked.append(dict(row))
            for column in self.formulas:
                mark = f"formula{len(known)}end"
                known[mark] = f'<span class="math notranslate nohighlight">\\({html.escape(row[column])}\\)</span>'
                marked[-1][column] = mark
        text = theme.Table(marked, self.caption, self.columns).to_html()
        for mark, formula in known.items():
            text = text.replace(mark, formula)
        return text


GATES = {"none": "–", "constant": "fixed"}  # as the table calls them, where a name does not fit its column


def rules_table(caption):
    """The rows of RULES: what a state keeps, what is written, what is read, and how fine its gate is."""
    rows = [
        {"rule": rule.title, "keeps": rule.transition, "writes": rule.write, "reads": rule.read,
         "gate": GATES.get(rule.gate, rule.gate)}
        for rule in RULES.values()
    ]  # fmt: skip
    return MathTable(rows, caption, {key: key for key in rows[0]})


@functools.cache
def _keys(keys):
    """Four unit keys, rows of [4, 4]: the axes, or all leaning towards one another by the cosine LEANING."""
    if keys not in KEYS:
        raise ValueError(f"keys must be one of {', '.join(KEYS)}; it is {keys!r}.")
    gram = torch.eye(4, dtype=torch.float64)
    if keys == "leaning":
        gram = (1 - LEANING) * gram + LEANING
    return torch.linalg.cholesky(gram)


@functools.cache
def remembered(rule, step, keep=0.5, beta=1.0, keys=KEYS[0]):
    """(read, wanted) for the keys A to D after `step` writes of PROGRAM; wanted is None before a key is written.

    keep: of retention at every token; of the gates that the text sets, at a token whose key is held already, else 1.
    A vector gate acts on the dimensions of that key, in proportion. beta: of the delta rules.
    """
    if not 0 <= step <= len(PROGRAM):
        raise ValueError(f"step must lie in 0..{len(PROGRAM)}; it is {step}.")
    rows = _keys(keys)
    key = torch.stack([rows[NAMES.index(name)] for name, _ in PROGRAM[:step]] or [rows[0] * 0])[None, None]
    value = torch.tensor([[each] for _, each in PROGRAM[:step]] or [[0.0]], dtype=torch.float64)[None, None]
    again = torch.tensor([name in {n for n, _ in PROGRAM[:at]} for at, (name, _) in enumerate(PROGRAM[: max(step, 1)])])
    share = torch.tensor(keep)
    if RULES[rule].gate == "scalar":
        share = torch.where(again, share.double(), 1.0)
    elif RULES[rule].gate == "vector":
        share = 1 - (1 - share) * again[:, None] * key**2
    held = read(rule, rows[None, None], written(rule, key, value, keep=share, beta=beta))[0, 0, :, 0]
    if step == 0:
        held = held * 0  # nothing was written: linear attention would divide its empty state by what stood in
    last = dict(PROGRAM[:step])
    return [0.0 if abs(each) < 1e-12 else each for each in held.tolist()], [last.get(name) for name in NAMES]


def _error(held, wanted):
    """Mean distance between what is read and what was last written, over the keys that were written."""
    off = [abs(got - want) for got, want in zip(held, wanted, strict=True) if want is not None]
    return sum(off) / len(off) if off else 0.0


# The panels of `memory`: (name, rule, the share that it keeps where the slider does not say). A sum is a RetNet that
# never fades.
PANELS = (
    ("sum", "retention", 1.0),
    ("linear attention, φ", "linear", None),
    ("RetNet", "retention", None),
    ("gate per head", "gated", None),
    ("gate per dimension", "gla", None),
    ("delta rule", "delta", None),
)


def _panels(step, keep, beta, keys):
    """(name, what the keys read, what they should) of each of PANELS."""
    return [(name, *remembered(rule, step, keep if own is None else own, beta, keys)) for name, rule, own in PANELS]


def memory(step=5, keep=0.5, beta=1.0, keys=KEYS[0]):
    """What does a key read back? Four keys, five writes, A written twice; bars are read, diamonds were last written."""
    import plotly.graph_objects as go

    panels = _panels(step, keep, beta, keys)
    now = PROGRAM[step - 1][0] if step else None
    shape = ["/" if name == now else "" for name in NAMES]
    traces, notes, settings, narrow = [], [], {}, {"height": 560}
    for number, (name, held, wanted) in enumerate(panels):
        axis, shown = str(number + 1) if number else "", number == 0
        place = dict(xaxis=f"x{axis}", yaxis=f"y{axis}", showlegend=shown)
        traces += [
            go.Bar(x=list(NAMES), y=held, name="read now", width=0.55, **place,
                   hovertemplate="%{x} reads %{y:.3g}<extra></extra>",
                   marker=dict(color=theme.BLUE, pattern=dict(shape=shape, solidity=0.4))),
            go.Scatter(x=list(NAMES), y=wanted, name="last written", mode="markers", **place,
                       hovertemplate="%{x} was last given %{y:g}<extra></extra>",
                       marker=dict(symbol="diamond-open", size=13, color=theme.VERMILLION, line=dict(width=2.5))),
        ]  # fmt: skip
        off = f"off by {_number(_error(held, wanted))} in the mean"
        notes += [theme.heading(f"<b>{name}</b>", axis), theme.heading(off, axis, row=8.9)]
        notes[-1] |= dict(font=dict(size=theme.SMALL))
        left, top = [0, 0.36, 0.72][number % 3], 1 - number // 3 * 0.55
        settings[f"xaxis{axis}"] = dict(domain=[left, left + 0.28], anchor=f"y{axis}", showgrid=False)
        settings[f"yaxis{axis}"] = dict(
            domain=[top - 0.4, top - 0.06], anchor=f"x{axis}", range=[-1.2, 10.4], tickvals=[0, 4, 8],
            zeroline=True, zerolinecolor=theme.QUIET,
        )  # fmt: skip
        left, top = [0, 0.54][number % 2], 1 - number // 2 * 0.36
        narrow |= {f"xaxis{axis}.domain": [left, left + 0.46], f"yaxis{axis}.domain": [top - 0.26, top - 0.05]}
    done = [
        f"<b>{name} = {value:g}</b>" if at == step - 1 else f"{name} = {value:g}" if at < step else "·"
        for at, (name, value) in enumerate(PROGRAM)
    ]
    notes.append(
        dict(text=f"Written: {', '.join(done)}", x=0, y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
             showarrow=False, font=dict(size=theme.NORMAL))
    )  # fmt: skip
    return theme.figure(
        *traces, height=430, annotations=notes, showlegend=True, margin=dict(t=24, l=8, r=8, b=40),
        legend=dict(x=0, y=0, yref="container", yanchor="bottom"), meta=dict(narrow=narrow), **settings,
    )  # fmt: skip


def _number(value):
    return theme.significant(value).replace("-", "−")


def _share(value):
    """A share of what was there, as words that a tiny one does not fill with zeros."""
    return "less than 0.001" if value < 1e-3 else _number(value)


def memory_says(step=5, keep=0.5, beta=1.0, keys=KEYS[0]):
    """`memory` in sentences: what each key reads by each rule, and the mean error."""
    if step == 0:
        return "Nothing is written yet, and every key reads 0."
    parts = []
    for name, held, wanted in _panels(step, keep, beta, keys):
        reads = ", ".join(
            f"{key} {_number(got)}" for key, got, want in zip(NAMES, held, wanted, strict=True) if want is not None
        )
        parts.append(f"{name}: {reads}; mean error {_number(_error(held, wanted))}")
    wanted = dict(PROGRAM[:step])
    last = ", ".join(f"{name} {value:g}" for name, value in sorted(wanted.items()))
    told = f"Keys {keys}, after {step} write{'s' * (step > 1)} the last values are {last}. "
    return f"{told}Read back by {'. By '.join(parts)}."


# (label, rule, share kept per token): what is drawn for the capacity, an additive state without φ being a gate of 1.
STORES = (
    ("sum", "gated", 1.0),
    ("linear attention, φ", "linear", 1.0),
    ("fading, 0.97", "retention", 0.97),
    ("delta", "delta", 1.0),
    ("delta, fading 0.97", "gated_delta", 0.97),
)
LOADS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # pairs over the size of a key
MEASURES = ("right", "error")


@functools.cache
def loaded(label, key_dim, rewritten, passes):
    """((pairs, share right, mean error), …) over LOADS for one of STORES: run, in float64."""
    rule, keep = next((rule, keep) for name, rule, keep in STORES if name == label)
    counts = [round(load * key_dim) for load in LOADS]
    return tuple(
        (pairs, *memory_recall(rule, pairs, key_dim, rewritten=rewritten, passes=passes, keep=keep)) for pairs in counts
    )


def capacity(key_dim=16, rewritten=False, passes=1, measure="right"):
    """How many pairs does a state hold? Random keys, read back after all were written; one line per rule."""
    import plotly.graph_objects as go

    traces = []
    for label, colour, dash, symbol in looks([label for label, *_ in STORES]):
        rows = loaded(label, key_dim, rewritten, passes)
        y = [row[1 + MEASURES.index(measure)] for row in rows]
        traces.append(go.Scatter(
            x=[row[0] / key_dim for row in rows], y=y, name=label, mode="lines+markers",
            customdata=[row[0] for row in rows], line=dict(color=colour, dash=dash, width=3),
            marker=dict(symbol=symbol, size=10),
            hovertemplate="%{customdata} pairs: %{y:.2f}<extra>" + label + "</extra>",
        ))  # fmt: skip
    edge = dict(type="line", x0=1, x1=1, yref="paper", y0=0, y1=1, line=dict(color=theme.QUIET, width=1, dash="dash"))
    right = measure == "right"
    return theme.figure(
        *traces, height=400, showlegend=True, shapes=[edge],
        xaxis=dict(title=dict(text="pairs / size of a key (dashed: as many pairs as dimensions)"),
                   tickvals=[0.25, 0.5, 1, 1.5, 2], range=[0.15, 2.1]),
        yaxis=dict(title=dict(text="keys whose nearest value is the last" if right else "mean relative error"),
                   range=[-0.03, 1.05] if right else [0, 6.2 if passes > 2 else 3.2]),
        meta=dict(narrow={"height": 460, "xaxis.title.text": "pairs / size of a key"}),
    )  # fmt: skip


def capacity_says(key_dim=16, rewritten=False, passes=1, measure="right"):
    """`capacity` in a sentence: every line at half as many and at as many pairs as dimensions."""
    place = 1 + MEASURES.index(measure)
    parts = []
    for label, _, _ in STORES:
        rows = {row[0]: row for row in loaded(label, key_dim, rewritten, passes)}
        half, full = rows[key_dim // 2][place], rows[key_dim][place]
        shown = (f"{half:.0%}", f"{full:.0%}") if measure == "right" else (_number(half), _number(full))
        parts.append(f"{label} {shown[0]} and {shown[1]}")
    what = "right answers" if measure == "right" else "mean relative error"
    how = ", each key first written with an old value" if rewritten else ""
    return (
        f"Keys of size {key_dim}, the pairs shown {passes} time{'s' * (passes > 1)}{how}: {what} with "
        f"{key_dim // 2} and {key_dim} pairs: {'; '.join(parts)}."
    )


SENTENCE = ("To", "be", ",", "or", "not", "to", "be", ":", "that", "is", "the", "question")
SEPARATORS = ",:"
TEMPERATURE = 16


@functools.cache
def left(at_separators, elsewhere):
    """What is left of each token of SENTENCE at the last: by `recurrence` with keys 1 each with its own value."""
    logit = torch.tensor(
        [at_separators if token in SEPARATORS else elsewhere for token in SENTENCE], dtype=torch.float64
    )
    log_gate = torch.nn.functional.logsigmoid(logit)[None, None] / TEMPERATURE
    ones = torch.ones(1, 1, len(SENTENCE), 1, dtype=torch.float64)
    own = torch.eye(len(SENTENCE), dtype=torch.float64)[None, None]
    output, _ = recurrence(ones, ones, own, rule="gated", log_gate=log_gate, scale=1.0)
    return tuple(output[0, 0, -1].tolist()), tuple(log_gate.exp()[0, 0].tolist())


def gates(at_separators=-64, elsewhere=2):
    """What does a gate do that the text sets? Left of each word at the last one; diamonds: were all gates the same."""
    import plotly.graph_objects as go

    place = list(range(len(SENTENCE)))
    weights, shares = left(at_separators, elsewhere)
    even, _ = left(elsewhere, elsewhere)
    cut = [token in SEPARATORS for token in SENTENCE]
    traces = [
        go.Bar(x=place, y=weights, name="gates set by the text", width=0.7, customdata=shares,
               marker=dict(color=[theme.VERMILLION if each else theme.BLUE for each in cut],
                           pattern=dict(shape=["/" if each else "" for each in cut], solidity=0.5)),
               hovertemplate="%{y:.3g} left; its gate keeps %{customdata:.3g} of the past<extra></extra>"),
        go.Scatter(x=place, y=even, name="the same gate everywhere", mode="markers", hoverinfo="skip",
                   marker=dict(symbol="diamond-open", size=11, color=theme.INK, line=dict(width=2))),
    ]  # fmt: skip
    return theme.figure(
        *traces, height=340, showlegend=True,
        xaxis=dict(tickvals=place, ticktext=list(SENTENCE), showgrid=False),
        yaxis=dict(range=[0, 1.05], title=dict(text="left at the last word")),
    )  # fmt: skip


def gates_says(at_separators=-64, elsewhere=2):
    """`gates` in a sentence."""
    weights, shares = left(at_separators, elsewhere)
    even, _ = left(elsewhere, elsewhere)
    colon = SENTENCE.index(":")
    return (
        f"A separator's gate keeps {_share(shares[colon])} of the past, a word's {_share(shares[0])}: at "
        f"“{SENTENCE[-1]}”, {_share(weights[0])} is left of “{SENTENCE[0]}” and {_share(weights[colon + 1])} of "
        f"“{SENTENCE[colon + 1]}”; with a word's gate everywhere, {_share(even[0])} of “{SENTENCE[0]}”."
    )
