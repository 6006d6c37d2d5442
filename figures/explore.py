"""`explore`: one call makes a figure that a reader can move, live in JupyterLab and without any kernel on the page."""

import functools
import inspect
import json
import math
import os
import re
import sys

from figures import codec, live, page

FIGURE_BUDGET = 500_000  # bytes of a figure's HTML, before compression
PAGE_BUDGET = 2_000_000
MOST_STATES = 5_000


class Explorable:
    """A figure with its controls, made by `explore` or `show`: a notebook shows it, `figure(**values)` draws one state.

    Where a kernel answers, widgets draw one state at once. Else, and where the environment says EFFATTN_STATIC=1, the
    notebook keeps `html`, the static form with all states: the same bytes on every machine.
    """

    def __init__(self, build, name, caption, alt, controls, play, budget):
        self.build, self.name, self.caption, self.alt = build, name, caption, alt
        self.controls, self.play, self.budget = controls, play, budget

    def figure(self, **values):
        """The plotly figure at `values`; parameters left out stand where they start."""
        from plotly.basedatatypes import BaseFigure

        figure = self.build(**{**{c.name: c.values[c.start] for c in self.controls}, **values})
        if not isinstance(figure, BaseFigure):
            kind = type(figure).__name__
            raise ValueError(f"{self.name}: the builder must return a plotly figure; it returned {kind}.")
        return figure

    def says(self, **values):
        """What the figure shows at `values`, in a sentence."""
        return str(self.alt(**values) if callable(self.alt) else self.alt)

    @functools.cached_property
    def html(self):
        """The static form. Draws every state; raises ValueError if that is over the budget."""
        sizes = [len(control.values) for control in self.controls]
        states = [
            {control.name: control.values[place] for control, place in zip(self.controls, places, strict=True)}
            for places in codec.grid(sizes)
        ]
        figures = [codec.plain(self.figure(**state)) for state in states]
        other = sorted({trace.get("type", "scatter") for each in figures for trace in each["data"]} - {*page.TRACES})
        if other:
            known = ", ".join(page.TRACES)
            raise ValueError(f"{self.name}: the page's plotly draws {known}; it cannot draw {', '.join(other)}.")
        sentences = [self.says(**state) for state in states]
        html = page.to_html(self.name, self.caption, self.controls, figures, sentences, self.play)
        size, count = len(html.encode()), len(states)
        if size > self.budget:
            raise ValueError(
                f"{self.name} takes {size:,} bytes ({count:,} states of about {math.ceil(size / count):,}), "
                f"over its budget of {self.budget:,}; {_coarsen(self.controls)}"
            )
        return html

    def _repr_mimebundle_(self, include=None, exclude=None):
        text = f"<figure {self.name}>"
        if is_live():
            static = {"text/html": page.unstored(self.caption), "text/plain": text}
            return {**live.widget(self)._repr_mimebundle_(), **static}
        return {"text/html": self.html, "text/plain": text}


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


def explore(
    build, *, name, caption, alt, default=None, play=None, words=None, labels=None, budget=FIGURE_BUDGET, **params
):
    """A figure with a control for each of `params`; `build(**values)` returns the plotly figure of one state.

    name: the figure's anchor on its page, and its name in the URL: lower case, digits, hyphens.
    caption: what to notice; alt: what is shown, a string or a function of the parameters; both are sentences.
    default: values to start from (else the first of each); play: the parameter that a Play button walks.
    words: for a parameter, a function from value to the words beside its control.
    labels: for a parameter, what its control is called (else its own name, with spaces).
    budget: most bytes of HTML.   params: numbers give a slider, [False, True] a switch, anything else a choice.
    Raises ValueError, in a sentence, for parameters that do not fit `build`, or a grid over its budget.
    """
    _check_texts(name, caption, alt)
    controls = _controls(name, params, default or {}, words or {}, labels or {})
    _check_play(name, play, controls)
    _check_signature(name, build, controls)
    count = math.prod(len(control.values) for control in controls)
    if count > MOST_STATES:
        raise ValueError(f"{name} has {count:,} states, {MOST_STATES:,} is the most; {_coarsen(controls)}")
    explorable = Explorable(build, name, caption, alt, controls, play, budget)
    if is_live():
        explorable.figure()
    else:
        explorable.html  # noqa: B018  (drawn now, for a notebook would swallow an error that comes when it is shown)
    return explorable


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
                raise ValueError(f"{notebook_path} has two figures named {name}; a name must be unique on its page.")
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


def _controls(name, params, default, words, labels):
    """A Control for each parameter; ValueError for an empty list, or a text or default of no parameter."""
    for what, given in (("default", default), ("words", words), ("labels", labels)):
        for key in given:
            if key not in params:
                raise ValueError(f"{name} has no parameter {key!r} for {what}; it has {', '.join(params) or 'none'}.")
    controls = []
    for key, values in params.items():
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            raise ValueError(f"{name}: {key} must be a list or range of values; it is {values!r}.")
        values = [value.item() if hasattr(value, "item") else value for value in values]
        texts = [page.plain_words(value) for value in values]
        if not values:
            raise ValueError(f"{name}: {key} needs at least one value; its list is empty.")
        if len(set(texts)) < len(texts):
            raise ValueError(f"{name}: {key} has a value twice; its values are {', '.join(texts)}.")
        if key in default and default[key] not in values:
            raise ValueError(f"{name}: {key} cannot start at {default[key]!r}; its values are {', '.join(texts)}.")
        start = values.index(default[key]) if key in default else 0
        spoken = [str(words[key](value)) for value in values] if key in words else texts
        controls.append(page.Control(key, values, spoken, start, labels.get(key) or key.replace("_", " ")))
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


def _coarsen(controls):
    longest = max(controls, key=lambda control: len(control.values), default=None)
    if longest is None:
        return "draw fewer points."
    return f"give {longest.name} fewer than its {len(longest.values)} values, or draw fewer points in each state."
