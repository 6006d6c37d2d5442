"""`explore`: one call makes a figure that a reader can move, live in JupyterLab and without any kernel on the page."""

import inspect
import itertools
import json
import math
import os
import re
import sys
from dataclasses import dataclass, field

from figures import page

FIGURE_BUDGET = 500_000  # bytes of a figure's HTML, before compression
PAGE_BUDGET = 2_000_000
MOST_STATES = 5_000


@dataclass
class Control:
    """One parameter of an explorable: its values in order, each with its words, and which one it starts from."""

    name: str
    values: list
    words: list
    start: int
    kind: str = field(init=False)

    def __post_init__(self):
        if all(isinstance(value, bool) for value in self.values):
            self.kind = "switch"
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values):
            self.kind = "range"
        else:
            self.kind = "choice"

    @property
    def label(self):
        return self.name.replace("_", " ")

    def describe(self):
        """What the page's script needs to know; `values` are as the URL writes them."""
        values = [str(int(value)) if isinstance(value, bool) else plain_words(value) for value in self.values]
        return dict(name=self.name, label=self.label, kind=self.kind, values=values, words=self.words, start=self.start)


def plain_words(value):
    """A parameter's value where no `words` are given for it: 0.5, 4096, on, none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Explorable:
    """A figure with its controls, made by `explore` or `show`: a notebook shows it, `figure(**values)` draws one state.

    `html` is the static form, the same bytes on every machine. In a running Jupyter the widgets are shown beside it,
    unless the environment says EFFATTN_STATIC=1.
    """

    def __init__(self, build, name, caption, alt, controls, play, html):
        self.build, self.name, self.caption, self.alt = build, name, caption, alt
        self.controls, self.play, self.html = controls, play, html

    def figure(self, **values):
        """The plotly figure at `values`; parameters left out stand where they start."""
        return self.build(**{**{c.name: c.values[c.start] for c in self.controls}, **values})

    def says(self, **values):
        """What the figure shows at `values`, in a sentence."""
        return self.alt(**values) if callable(self.alt) else self.alt

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/html": self.html, "text/plain": f"<figure {self.name}>"}
        if is_live():
            from figures import live

            bundle = {**live.widget(self)._repr_mimebundle_(), **bundle}
        return bundle


def is_live():
    """Whether widgets can answer: in a Jupyter kernel that has ipywidgets, and EFFATTN_STATIC is not 1."""
    if os.environ.get("EFFATTN_STATIC") == "1" or "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    if getattr(get_ipython(), "kernel", None) is None:
        return False
    try:
        import ipywidgets  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def explore(build, *, name, caption, alt, default=None, play=None, words=None, budget=FIGURE_BUDGET, **params):
    """A figure with a control for each of `params`; `build(**values)` returns the plotly figure of one state.

    name: the figure's anchor on its page, and its name in the URL: lower case, digits, hyphens.
    caption: what to notice; alt: what is shown, a string or a function of the parameters; both are sentences.
    default: values to start from (else the first of each); play: the parameter that a Play button walks.
    words: for a parameter, a function from value to the words beside its control.
    budget: most bytes of HTML.   params: numbers give a slider, [False, True] a switch, anything else a choice.
    Raises ValueError, in a sentence, for parameters that do not fit `build`, or a grid over its budget.
    """
    _check_texts(name, caption, alt)
    controls = _controls(name, params, default or {}, words or {})
    _check_play(name, play, controls)
    _check_signature(name, build, controls)
    count = math.prod(len(control.values) for control in controls)
    if count > MOST_STATES:
        raise ValueError(f"{name} has {count:,} states, {MOST_STATES:,} is the most; {_coarsen(controls)}")
    states = [
        dict(zip(params, values, strict=True)) for values in itertools.product(*(each.values for each in controls))
    ]
    figures = [page.plain(_figure(name, build, state)) for state in states]
    sentences = [str(alt(**state) if callable(alt) else alt) for state in states]
    start = 0
    for control in controls:
        start = start * len(control.values) + control.start
    html = page.to_html(name, caption, controls, figures, sentences, start, play)
    size = len(html.encode())
    if size > budget:
        raise ValueError(
            f"{name} takes {size:,} bytes ({count:,} states of about {math.ceil(size / count):,}), "
            f"over its budget of {budget:,}; {_coarsen(controls)}"
        )
    return Explorable(build, name, caption, alt, controls, play, html)


def show(figure, *, name, caption, alt, budget=FIGURE_BUDGET):
    """One plotly figure without controls, stored and themed as `explore` does. Arguments as there."""
    return explore(lambda: figure, name=name, caption=caption, alt=alt, budget=budget)


def page_weight(notebook_path):
    """Bytes of all explorables stored in an .ipynb. Raises ValueError over PAGE_BUDGET, or if two share a name."""
    with open(notebook_path, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    sizes = {}
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        text = "".join(output.get("data", {}).get("text/html", []))
        for name in re.findall(r'<figure class="explorable" id="([^"]+)"', text):
            if name in sizes:
                raise ValueError(f"{notebook_path} has two figures named {name}; a name is an anchor, one a page.")
            sizes[name] = len(text.encode())
    total = sum(sizes.values())
    if total > PAGE_BUDGET:
        largest = max(sizes, key=sizes.get)
        raise ValueError(
            f"{notebook_path} holds {total:,} bytes of figures, over the page's {PAGE_BUDGET:,}; "
            f"the largest is {largest} with {sizes[largest]:,}."
        )
    return total


def _check_texts(name, caption, alt):
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", str(name)):
        raise ValueError(f"name must be lower case letters, digits and single hyphens; it is {name!r}.")
    if not str(caption).strip():
        raise ValueError(f"{name} needs a caption that says what to notice; it is empty.")
    if not callable(alt) and not str(alt).strip():
        raise ValueError(f"{name} needs an alt text that says what is shown; it is empty.")


def _controls(name, params, default, words):
    """A Control for each parameter; ValueError for an empty list, or a default or words that belong to none."""
    for what, given in (("default", default), ("words", words)):
        for key in given:
            if key not in params:
                raise ValueError(f"{name} has no parameter {key!r} for {what}; it has {', '.join(params) or 'none'}.")
    controls = []
    for key, values in params.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise ValueError(f"{name}: {key} must be a list or range of values; it is {values!r}.")
        values = [value.item() if hasattr(value, "item") else value for value in values]
        texts = [plain_words(value) for value in values]
        if not values:
            raise ValueError(f"{name}: {key} needs at least one value; its list is empty.")
        if len(set(texts)) < len(texts):
            raise ValueError(f"{name}: {key} has a value twice; its values are {', '.join(texts)}.")
        if key in default and default[key] not in values:
            raise ValueError(f"{name}: {key} cannot start at {default[key]!r}; its values are {', '.join(texts)}.")
        start = values.index(default[key]) if key in default else 0
        spoken = [str(words[key](value)) for value in values] if key in words else texts
        controls.append(Control(key, values, spoken, start))
    return controls


def _check_play(name, play, controls):
    if play is None:
        return
    kinds = {control.name: control.kind for control in controls}
    if kinds.get(play) != "range":
        ordered = [key for key, kind in kinds.items() if kind == "range"]
        raise ValueError(f"{name} cannot play {play!r}; its ordered parameters are {', '.join(ordered) or 'none'}.")


def _check_signature(name, build, controls):
    try:
        inspect.signature(build).bind(**{control.name: None for control in controls})
    except TypeError as error:
        accepted = ", ".join(inspect.signature(build).parameters) or "none"
        raise ValueError(f"{name}: the builder takes the parameters {accepted}, and {error}.") from None


def _figure(name, build, state):
    from plotly.basedatatypes import BaseFigure

    figure = build(**state)
    if not isinstance(figure, BaseFigure):
        raise ValueError(f"{name}: the builder must return a plotly figure; it returned {type(figure).__name__}.")
    return figure


def _coarsen(controls):
    longest = max(controls, key=lambda control: len(control.values), default=None)
    if longest is None:
        return "draw fewer points."
    return f"give {longest.name} fewer than its {len(longest.values)} values, or draw fewer points in each state."
