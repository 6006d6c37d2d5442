"""Which method, when: a table of all methods that hides those which do not suit, and what fits on one card.

The table is plain HTML and says everything without a script. `book/_static/which.js` hides a method for what the reader
has chosen, and says why; the sentences are those of `choices.reasons`, made here, so that there is one source of them.
"""

import functools
import html
import json

from effattn_core import choices, costs
from figures import theme

CONTEXTS = [8192, 32768, 131072, 1048576]
MEMORIES = [24e9, 48e9, 80e9]
ANY = "any"
COLUMNS = ("method", "keeps of the text", "reads per token", "prompt", "training", "exact recall")


def _bytes(memory):
    return f"{memory / 1e9:.0f} GB"


# What is asked: name, label, and options as pairs (value, words); the first asks for nothing, except of a context.
QUESTIONS = (
    ("context", "Length of your texts", [(str(each), f"{theme.tokens(each)} tokens") for each in CONTEXTS]),
    ("memory", "Memory of your card", [(ANY, "any"), *((str(int(each)), _bytes(each)) for each in MEMORIES)]),
    ("training", "May you train?",
     [(ANY, "does not matter"), ("no", "no"), ("short", "a short time"), ("scratch", "from scratch")]),
    ("recall", "Exact recall needed?", [(ANY, "does not matter"), ("needed", "yes")]),
    ("task", "What do you want to do?", [(ANY, "anything"), *choices.TASKS.items()]),
)  # fmt: skip


def choosing():
    """The table of all methods under the questions that hide some of them."""
    return Choosing(choices.methods())


class Choosing(theme.Shown):
    """The table, with all methods in it. Made by `choosing`."""

    def __init__(self, methods):
        self.methods = methods

    def to_html(self):
        head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
        data = theme.in_script(json.dumps([told(method) for method in self.methods], ensure_ascii=False))
        caption = (
            f"The methods of the book at the bill's sizes, after {theme.tokens(choices.CONTEXT)} tokens or as many as "
            "you choose. Under each: what it recalled and where it did worse here, what runs it, who uses it."
        )
        return "\n".join([
            '<div class="explorable-table sentences which" data-which="">', _controls(),
            f'<p class="which-count" role="status">{len(self.methods)} methods.</p>',
            '<details class="which-hidden" open hidden><summary>Hidden, and why</summary><ul></ul></details>',
            f'<table class="table"><caption>{theme.inline(caption)}</caption>', f"<thead><tr>{head}</tr></thead>",
            *(_body(method) for method in self.methods), "</table>",
            f'<script type="application/json" class="which-data">{data}</script>', "</div>",
        ])  # fmt: skip

    def __str__(self):
        lines = ("  ".join([method.name, *_cells(method).values()]) for method in self.methods)
        return "\n".join(lines)


def told(method):
    """What the page's script needs of a method: its name, its cells by context, and its reasons by question and answer.

    Reasons of a memory have keys "memory context", because one hides for both.
    """
    found = {
        "context": {context: choices.too_short(method, context) for context in CONTEXTS},
        "task": {task: choices.elsewhere_used(method, task) for task in choices.TASKS},
        "memory": {
            f"{memory:.0f} {context}": choices.too_large(method, context, memory)
            for memory in MEMORIES
            for context in CONTEXTS
        },
        "training": {allowed: choices.too_dear(method, allowed) for allowed in choices.TRAINING},
        "recall": {"needed": choices.forgetful(method)},
    }
    reasons = {name: {key: why for key, why in each.items() if why} for name, each in found.items()}
    cells = {context: _cells(method, context) for context in CONTEXTS} if method.lines else {}
    return {"name": method.name, "cells": cells, "reasons": reasons}


def _cells(method, context=choices.CONTEXT):
    """The three cells that a context decides, as text by name."""
    if method.lines is None:
        return {"cache": "–", "decode": "–", "prefill": "–"}
    return {key: method.lines(context)[key].amount() for key in ("cache", "decode", "prefill")}


def per_token(method):
    """How what is kept grows, in words."""
    grows, stays = choices.growth(method)
    if not grows:
        return "however long the text"
    return f"{costs.format_bytes(grows)} per token" + (f", and {costs.format_bytes(stays)}" if stays > 0 else "")


def _body(method):
    """A method's two rows: what it costs, and what is said of it."""
    cells = _cells(method)
    spans = {key: f'<span data-cell="{key}">{text}</span>' for key, text in cells.items()}
    if method.lines:
        spans["cache"] += f" ({per_token(method)})"
        spans["prefill"] += f", {choices.order(method)}"
    shown = [*spans.values(), choices.TRAINING[method.training], method.recall.verdict]
    row = "".join(f'<td data-column="{name}">{text}</td>' for name, text in zip(COLUMNS[1:], shown, strict=True))
    link = f'<a href="../{method.page}.html">{html.escape(method.name)}</a>'
    said = " ".join(f"<b>{name}</b> {html.escape(text)}." for name, text in _said(method))
    return (
        f'<tbody data-method="{html.escape(method.name)}"><tr><th scope="row">{link}</th>{row}</tr>\n'
        f'<tr><td colspan="{len(COLUMNS)}">{said}</td></tr></tbody>'
    )


def _said(method):
    """Pairs (heading, text without its full stop) of the second row."""
    source = f" ({method.recall.recording})" if method.recall.recording else ""
    yield "Recall:", method.recall.words + source
    yield "Loses:", f"{method.loses.words()} ({method.loses.recording})"
    if method.price:
        yield "Costs:", method.price()
    moved = choices.elsewhere(method)
    if moved:
        yield "Moves:", "; ".join(f"{old.name.lower()} {old.amount()} → {new.amount()}" for old, new in moved)
    yield "Kernels here:", ", ".join(name for name, _ in method.kernels) or "none"
    yield "Seen in:", "; ".join(name for name, _ in method.seen)


def _controls():
    """Native controls, away until the script that answers to them has come."""
    rows = []
    for name, label, options in QUESTIONS:
        chosen = str(choices.CONTEXT) if name == "context" else options[0][0]
        entries = "".join(
            f'<option value="{value}"{" selected" if value == chosen else ""}>{words}</option>'
            for value, words in options
        )
        rows.append(
            f'<div class="explorable-choice"><label for="which--{name}">{label}</label>'
            f'<select id="which--{name}" data-question="{name}" autocomplete="off">{entries}</select></div>'
        )
    buttons = '<div class="explorable-buttons"><button type="button" class="which-reset">Reset</button></div>'
    return (
        '<fieldset class="explorable-controls" hidden><legend>What you have</legend>\n'
        + "\n".join([*rows, buttons])
        + "\n</fieldset>"
    )


HEADINGS = {
    "prefill": "prompt", "scores": "scores", "weights": "weights", "cache": "kept", "decode": "read", "head": "head",
    "optimizer": "optimizer",
}  # fmt: skip


def bill_rows(context=choices.CONTEXT):
    """Rows for a table: the bill of every design, a column per line; in italics what is lower than at the start."""
    designs = choices.whole_bill(context)
    start = designs[0][1]
    rows = []
    for method, lines in designs:
        row = {"design": method}
        for key, heading in HEADINGS.items():
            text = lines[key].amount()
            row[heading] = f"*{text}*" if lines[key].value < start[key].value else text
        rows.append(row | {"its own": "; ".join(lines[key].amount() for key in lines if key not in start) or "–"})
    return rows


END, GIB, ROW = 100 * 2.0**30, 2.0**30, 42  # the axis' end, and pixels per method
WEIGHTS, TEXT = theme.QUIET, theme.BLUE


@functools.cache
def _served():
    return tuple(method for method in choices.methods() if method.task == "text")


def fits(context=choices.CONTEXT):
    """What does one conversation take of a card, by method? Weights grey, what is kept of the text after them."""
    import plotly.graph_objects as go

    methods = _served()
    traces, notes = [], []
    for name, colour in (("weights", WEIGHTS), ("kept of the text", TEXT)):
        look = dict(name=name, marker=dict(color=colour), showlegend=True, hoverinfo="skip")
        traces.append(go.Bar(x=[None], y=[0], orientation="h", **look))
    for place, method in enumerate(methods):
        y, lines = len(methods) - place - 1, method.lines(context)
        weights, text = lines["weights"].value, lines["cache"].value
        drawn = min(text, END - weights)
        bar = dict(orientation="h", y=[y], width=0.42, showlegend=False, hoverinfo="skip")
        traces.append(go.Bar(x=[weights], marker=dict(color=WEIGHTS), **bar))
        traces.append(go.Bar(x=[drawn], base=[weights], marker=dict(color=TEXT), **bar))
        sum_ = f"<b>{costs.format_bytes(weights + text)}</b>" + (" ▶" if text > drawn else "")
        notes += [_note(method.name, "left", y), _note(sum_, "right", y)]
    shapes = [
        dict(type="line", x0=memory, x1=memory, xref="x", y0=y - 0.24, y1=y + 0.24, yref="y",
             line=dict(color=theme.INK, width=2, dash="dot"))
        for memory in (MEMORIES[0], MEMORIES[-1])
        for y in range(len(methods))
    ]  # fmt: skip
    narrow = {f"annotations.{place}.font.size": theme.SMALL for place in range(2 * len(methods))}
    ticks = [0, 25 * GIB, 50 * GIB, 75 * GIB, 100 * GIB]
    return theme.figure(
        *traces, height=ROW * len(methods) + 84, annotations=notes, shapes=shapes, barmode="overlay", showlegend=True,
        legend=dict(y=1, yanchor="bottom", x=0, itemclick=False, itemdoubleclick=False),
        margin=dict(l=12, r=22, t=36, b=40), meta=dict(narrow=narrow),
        xaxis=dict(range=[0, END], tickvals=ticks, ticktext=["0", *map(costs.format_bytes, ticks[1:])],
                   title=dict(text="bytes; dotted: cards of 24 and of 80 GB")),
        yaxis=dict(range=[-0.5, len(methods) - 0.2], showticklabels=False, showgrid=False),
    )  # fmt: skip


def _note(text, side, y):
    return theme.heading(text, side=side) | dict(
        y=y + 0.21, yref="y", yanchor="bottom", yshift=0, font=dict(size=theme.NORMAL, color=theme.INK)
    )


def fits_says(context=choices.CONTEXT):
    """`fits` in a sentence: what fits on the smaller card, and what on neither."""
    sizes = {method.name: choices.held(method, context)[0] for method in _served()}
    small = [name for name, size in sizes.items() if size <= MEMORIES[0]]
    none = [f"{name} {costs.format_bytes(size)}" for name, size in sizes.items() if size > MEMORIES[-1]]
    least, most = min(sizes, key=sizes.get), max(sizes, key=sizes.get)
    said = (
        f"After {context:,} tokens {len(small)} of {len(sizes)} methods fit on a card of {_bytes(MEMORIES[0])}; all "
        f"take from {costs.format_bytes(sizes[least])}, {least}, to {costs.format_bytes(sizes[most])}, {most}"
    )
    return (
        f"{said}; over {_bytes(MEMORIES[-1])} are {', '.join(none)}."
        if none
        else f"{said}; all fit on {_bytes(MEMORIES[-1])}."
    )
