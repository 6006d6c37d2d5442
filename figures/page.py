"""How a grid of figures becomes one piece of HTML that needs no kernel: what changes is stored, once, and compactly.

The data, read by `book/_static/explore.js`:

- base: the figure, without what changes;
- values: every distinct thing that changes; null stands for "absent";
- columns: one for each place that changes: its path in the figure, and for each state the index into `values`;
- states: one for each parameter: its name, its kind, its values as text and in words.

States are numbered with the last parameter running fastest.
"""

import base64
import html
import json
import math

import numpy as np

from figures import theme

ABSENT = object()
LONG = 16  # shorter lists of numbers stay JSON, which is smaller and can be read
DIGITS = 5  # significant digits kept of a float, so that every machine stores the same ones


def compact(value, arrays=False):
    """`value` as JSON can hold it: floats rounded, not-a-number as null; with `arrays`, long numeric ones as base64."""
    if isinstance(value, dict):
        if "bdata" in value:
            return compact(_decode(value), arrays)
        return {key: compact(each, arrays) for key, each in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        array = _numeric(value) if arrays else None
        if array is not None:
            return _encode(array)
        return [compact(each, arrays) for each in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    return rounded(value) if isinstance(value, float) else value


def rounded(value):
    """A float to DIGITS significant digits, as an int where it is one; None where it is not finite."""
    if not math.isfinite(value):
        return None
    value = float(f"{value:.{DIGITS}g}")
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _decode(value):
    """The array of plotly's own base64 form."""
    array = np.frombuffer(base64.b64decode(value["bdata"]), np.dtype(value["dtype"]).newbyteorder("<"))
    shape = value.get("shape")
    return array.reshape([int(size) for size in str(shape).split(",")]) if shape else array


def _numeric(value):
    """`value` as a numeric array worth encoding, else None."""
    try:
        array = np.asarray(value)
        if array.dtype == object:  # None among numbers is a gap; anything else stays a list
            array = np.asarray(value, dtype=float)
    except (ValueError, TypeError):
        return None
    return array if array.dtype.kind in "iuf" and array.size >= LONG and array.ndim <= 2 else None


def _encode(array):
    """Plotly's typed-array form of a numeric array, in the smallest type that holds its rounded values."""
    if array.dtype.kind == "f":
        flat = [math.nan if (short := rounded(each)) is None else short for each in array.ravel().tolist()]
        array = np.array(flat, dtype=float).reshape(array.shape)
    whole = bool(np.isfinite(array).all() and (array == np.floor(array)).all())
    kinds = ("i1", "u1", "i2", "u2", "i4") if whole else ()
    kind = next((k for k in kinds if np.iinfo(k).min <= array.min() and array.max() <= np.iinfo(k).max), "f4")
    shape = {"shape": ", ".join(map(str, array.shape))} if array.ndim == 2 else {}
    return {"dtype": kind, "bdata": _base64(array, kind), **shape}


def _base64(array, kind):
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def plain(figure):
    """A plotly figure as a compact dict, in the book's theme: the same bytes for the same figure, anywhere."""
    parts = figure.to_plotly_json()
    layout = {key: each for key, each in parts.get("layout", {}).items() if key != "template"}
    return {"data": compact(parts.get("data", []), arrays=True), "layout": compact(layout)}


def encode(figures, sentences):
    """What is the same in all states, and what changes: (base, values, columns) for as many figures as sentences.

    figures: dicts from `plain`, one a state; sentences: what each state says, for those who cannot see it.
    """
    columns, values = [], {"null": 0}
    nodes = [{"figure": figure, "says": sentence} for figure, sentence in zip(figures, sentences, strict=True)]
    base = _spread(nodes, [], columns, values)
    kind = "u1" if len(values) <= 256 else "u2" if len(values) <= 65536 else "i4"
    columns = [{"path": path, "index": _base64(np.array(index), kind)} for path, index in columns]
    return base, [json.loads(text) for text in values], columns, kind


def _spread(nodes, path, columns, values):
    """The part of `nodes` (the same place in every state) that never changes; the rest goes to columns and values."""
    if all(isinstance(node, dict) and "bdata" not in node for node in nodes):
        keys = sorted({key for node in nodes for key in node})
        parts = {key: _spread([node.get(key, ABSENT) for node in nodes], [*path, key], columns, values) for key in keys}
        return {key: part for key, part in parts.items() if part is not ABSENT}
    if all(_is_list_of_dicts(node) for node in nodes) and len({len(node) for node in nodes}) == 1:
        return [_spread(list(each), [*path, i], columns, values) for i, each in enumerate(zip(*nodes, strict=True))]
    texts = ["null" if node is ABSENT else _json(node) for node in nodes]
    if len(set(texts)) == 1:
        return nodes[0]
    columns.append((path, [values.setdefault(text, len(values)) for text in texts]))
    return ABSENT


def _is_list_of_dicts(node):
    return isinstance(node, list) and bool(node) and all(isinstance(each, dict) for each in node)


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_html(name, caption, controls, figures, sentences, start, play):
    """The <figure> of an explorable: native controls, an empty chart of the right height, what it says, its data.

    controls: list of `figures.explore.Control`; start: the state shown first, as its number.
    """
    base, values, columns, kind = encode(figures, sentences)
    template = compact(theme.template().to_plotly_json())
    data = dict(
        base=base["figure"], says=base.get("says"), values=values, columns=columns, kind=kind, play=play,
        template=template, roles=theme.ROLES, states=[control.describe() for control in controls],
    )  # fmt: skip
    # "<" cannot occur outside a string in JSON: escaped, nothing in the data can end the script element.
    script = _json(data).replace("<", "\\u003c")
    height, narrow = (max(heights) for heights in zip(*map(_heights, figures), strict=True))
    parts = [
        f'<figure class="explorable" id="{name}" style="--height:{height}px;--narrow-height:{narrow}px">',
        _controls(name, controls, play) if controls else "",
        f'<div class="explorable-chart" role="img" aria-labelledby="{name}--says">'
        '<p class="explorable-waiting">The figure is drawn on the book’s page, or when this cell runs.</p></div>',
        f'<p class="explorable-says" id="{name}--says" aria-live="polite">{html.escape(sentences[start])}</p>',
        f"<figcaption>{theme.inline(caption)}</figcaption>",
        "<noscript><p>This figure needs JavaScript to be drawn; the lines above say what it shows.</p></noscript>",
        f'<script type="application/json" class="explorable-data">{script}</script>',
        "</figure>",
    ]
    return "\n".join(part for part in parts if part)


def _heights(figure):
    """Height in pixels of a figure on a wide page and on a narrow one, where `layout.meta.narrow` is laid over it."""
    wide = figure["layout"].get("height", 380)
    return wide, figure["layout"].get("meta", {}).get("narrow", {}).get("height", wide)


def _controls(name, controls, play):
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
        field = f'<input type="checkbox" {shared}{mark}>'
        return f'<div class="explorable-switch">{field}<label for="{identifier}">{label}</label></div>'
    if control.kind == "choice":
        options = "".join(
            f'<option value="{i}"{" selected" if i == start else ""}>{word}</option>' for i, word in enumerate(words)
        )
        field = f"<select {shared}>{options}</select>"
        return f'<div class="explorable-choice"><label for="{identifier}">{label}</label>{field}</div>'
    field = (
        f'<input type="range" {shared} min="0" max="{len(words) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{words[start]}">'
    )
    output = f'<output for="{identifier}" aria-hidden="true">{words[start]}</output>'
    return f'<div class="explorable-range"><label for="{identifier}">{label}</label>{field}{output}</div>'
