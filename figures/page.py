"""The HTML of an explorable on the book's page: native controls, an empty chart, what it says, and its data."""

import html
from dataclasses import dataclass, field

from figures import codec, theme


@dataclass
class Control:
    """One parameter of an explorable: its values in order, each with its words; where it starts; what it is called."""

    name: str
    values: list
    words: list
    start: int
    label: str
    kind: str = field(init=False)

    def __post_init__(self):
        if all(isinstance(value, bool) for value in self.values):
            self.kind = "switch"
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values):
            self.kind = "range"
        else:
            self.kind = "choice"

    def describe(self):
        """What the page's script needs to know; `values` are as the URL writes them."""
        values = [str(int(value)) if isinstance(value, bool) else plain_words(value) for value in self.values]
        return dict(name=self.name, label=self.label, kind=self.kind, values=values, words=self.words, start=self.start)


# What plotly's build for flat axes can draw (book/_ext holds it).
TRACES = (
    "bar box contour heatmap histogram histogram2d histogram2dcontour image pie scatter scatterternary violin"
).split()


def plain_words(value):
    """A parameter's value where no `words` are given for it: 0.5, 4096, on, none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def to_html(name, caption, controls, figures, sentences, play):
    """The <figure> of an explorable: native controls, an empty chart of the right height, what it says, its data.

    controls: list of `Control`; figures and sentences: one for each state, in the order of `codec.grid`.
    """
    base, values, columns, kind = codec.encode(figures, sentences)
    template = codec.compact(theme.template().to_plotly_json())
    data = dict(
        base=base["figure"], says=base.get("says"), values=values, columns=columns, kind=kind, play=play,
        template=template, roles=theme.ROLES, states=[control.describe() for control in controls],
    )  # fmt: skip
    # "<" cannot occur outside a string in JSON: escaped, nothing in the data can end the script element.
    script = theme.in_script(codec.to_json(data))
    height, narrow = (max(heights) for heights in zip(*map(_heights, figures), strict=True))
    start = codec.number([control.start for control in controls], [len(control.values) for control in controls])
    parts = [
        f'<figure class="explorable" id="{name}" style="--height:{height}px;--narrow-height:{narrow}px">',
        _fieldset(name, controls, play) if controls else "",
        f'<div class="explorable-chart" role="img" aria-labelledby="{name}--says">'
        '<p class="explorable-waiting">The figure is drawn on the book’s page, or when this cell runs.</p></div>',
        f'<p class="explorable-says" id="{name}--says" aria-live="polite">{html.escape(sentences[start])}</p>',
        f"<figcaption>{theme.inline(caption)}</figcaption>",
        "<noscript><p>This figure needs JavaScript to be drawn; the lines above say what it shows.</p></noscript>",
        f'<script type="application/json" class="explorable-data">{script}</script>',
        "</figure>",
    ]
    return "\n".join(part for part in parts if part)


def unstored(caption):
    """What a notebook keeps of a figure that was shown live."""
    return (
        f"<p>{theme.inline(caption)}</p>\n<p>This figure was live: it comes back when its cell runs. "
        f"<code>make notebooks</code> stores it for the page.</p>"
    )


def _heights(figure):
    """Height in pixels of a figure on a wide page and on a narrow one, where `layout.meta.narrow` is laid over it."""
    wide = figure["layout"].get("height", 380)
    return wide, figure["layout"].get("meta", {}).get("narrow", {}).get("height", wide)


def _fieldset(name, controls, play):
    """Native controls in a fieldset, disabled until the script that answers to them has come."""
    rows = [_control(f"{name}--{control.name}", control) for control in controls]
    buttons = '<button type="button" class="explorable-reset">Reset</button>'
    if play:
        label = html.escape(next(control.label for control in controls if control.name == play))
        buttons = f'<button type="button" class="explorable-play" data-label="{label}">Play {label}</button>' + buttons
    return (
        f'<fieldset class="explorable-controls" disabled><legend>Controls of the figure {name}</legend>\n'
        + "\n".join(rows)
        + f'\n<div class="explorable-buttons">{buttons}</div>\n</fieldset>'
    )


def _control(identifier, control):
    label, words, start = html.escape(control.label), [html.escape(word) for word in control.words], control.start
    shared = f'id="{identifier}" data-parameter="{control.name}" autocomplete="off"'
    if control.kind == "switch":
        mark = " checked" if control.values[start] else ""
        entry = f'<input type="checkbox" {shared}{mark}>'
        return f'<div class="explorable-switch">{entry}<label for="{identifier}">{label}</label></div>'
    if control.kind == "choice":
        options = "".join(
            f'<option value="{i}"{" selected" if i == start else ""}>{word}</option>' for i, word in enumerate(words)
        )
        entry = f"<select {shared}>{options}</select>"
        return f'<div class="explorable-choice"><label for="{identifier}">{label}</label>{entry}</div>'
    entry = (
        f'<input type="range" {shared} min="0" max="{len(words) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{words[start]}">'
    )
    output = f'<output for="{identifier}" aria-hidden="true">{words[start]}</output>'
    return f'<div class="explorable-range"><label for="{identifier}">{label}</label>{entry}{output}</div>'
