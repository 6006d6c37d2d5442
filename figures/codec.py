"""How a grid of figures is stored: what changes, once, and compactly. `book/_static/explore.js` reads it.

- base: the figure, without what changes;
- values: every distinct thing that changes; null stands for "absent";
- columns: one for each place that changes: its path in the figure, and for each state the index into `values`;
- states: one for each parameter: its name, its kind, its values as text and in words.
"""

import base64
import itertools
import json
import math

import numpy as np

ABSENT = object()
LONG = 16  # shorter lists of numbers stay JSON, which is smaller and can be read
DIGITS = 5  # significant digits kept of a float, so that every machine stores the same ones


def grid(sizes):
    """The places of every state, in the order in which states are stored: the last parameter runs fastest."""
    return itertools.product(*map(range, sizes))


def number(places, sizes):
    """The number of the state at `places`, one for each parameter, in the order of `grid`."""
    return sum(place * math.prod(sizes[i + 1 :]) for i, place in enumerate(places))


def compact(value, arrays=False):
    """`value` as JSON can hold it: floats rounded, not-a-number as null; with `arrays`, long numeric ones as base64."""
    if isinstance(value, dict):
        if "bdata" in value:
            return compact(decode(value), arrays)
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


def decode(value):
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
    texts = ["null" if node is ABSENT else to_json(node) for node in nodes]
    if len(set(texts)) == 1:
        return nodes[0]
    columns.append((path, [values.setdefault(text, len(values)) for text in texts]))
    return ABSENT


def _is_list_of_dicts(node):
    return isinstance(node, list) and bool(node) and all(isinstance(each, dict) for each in node)


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
