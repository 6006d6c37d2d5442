"""What every stored figure is held to: no data outside its axes, and no caption that names what is not there."""

import base64
import html
import json
import math
import re

import numpy as np
import pytest
from support import house
from support.legible import walk
from support.stored import data_of, state_of

from figures import theme

PAGES = {path.stem: path for path in house.notebooks()}
# A word of a caption, and the colours of which a figure must then have one. Nothing of the palette is red.
HUES = {
    "red": set(),
    "orange": {theme.ORANGE, theme.VERMILLION},
    "blue": {theme.BLUE, theme.SKY},
    "green": {theme.GREEN},
    "purple": {theme.PURPLE},
}
# Likewise a word for a look: what must then be somewhere in the figure, as the last name of a path and its value.
LOOKS = {
    "hatched": lambda key, value: key == "shape" and value in ("/", "\\", "x", "-", "|", "+", "."),
    "hollow": lambda key, value: (
        (key == "symbol" and "open" in str(value))
        or (key == "color" and re.search(r"rgba\(.*, ?0(\.0*)?1?\)", str(value)) is not None)
    ),
    "dotted": lambda key, value: key == "dash" and value == "dot",
    "dashed": lambda key, value: key == "dash" and "dash" in str(value),
    "star": lambda key, value: key == "symbol" and "star" in str(value),
}


def figures(path):
    """(name, caption, stored data) of each figure that a notebook stores."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/html", []))
            if name := re.search(r'<figure class="explorable" id="([^"]+)"', text):
                caption = re.search(r"<figcaption[^>]*>(.*?)</figcaption>", text, re.S)[1]
                yield name[1], html.unescape(re.sub("<[^>]+>", "", caption)), data_of(text)


def shown(data):
    """The state that a figure opens in, and those with one control at its first or last value."""
    start = [parameter.get("start", 0) for parameter in data["states"]]
    sizes = [len(parameter["values"]) for parameter in data["states"]]
    places = {tuple(start)}
    for each, size in enumerate(sizes):
        places |= {tuple(end if at == each else old for at, old in enumerate(start)) for end in (0, size - 1)}
    for place in sorted(places):
        yield place, state_of(data, place)["figure"]


def numbers(values):
    """The finite numbers of a trace's coordinate, which may be stored as a typed array."""
    if isinstance(values, dict):
        values = np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()
    return [each for each in values or [] if isinstance(each, (int, float)) and math.isfinite(each)]


def ends(trace, way):
    """Where the bars of a trace end: their length from their base."""
    lengths, base = numbers(trace.get(way)), trace.get("base", 0)
    starts = numbers(base) if isinstance(base, (dict, list)) else [base] * len(lengths)
    return [start + length for start, length in zip(starts, lengths, strict=True)]


def outside(figure):
    """Of a figure's scatter and bar traces, the coordinates that their axis, where its range is fixed, cuts off."""
    found = []
    for trace in figure["data"]:
        if trace.get("type", "scatter") not in ("scatter", "bar") or trace.get("cliponaxis") is False:
            continue
        for way in "xy":
            name = trace.get(f"{way}axis", way)
            axis = figure["layout"].get(f"{way}axis{name[1:]}", {})
            if "range" in axis and axis.get("type", "linear") in ("linear", "log"):
                low, high = sorted(axis["range"])
                slack, logarithmic = 1e-3 * (high - low), axis.get("type") == "log"
                along = trace.get("type") == "bar" and way == ("x" if trace.get("orientation") == "h" else "y")
                for value in ends(trace, way) if along else numbers(trace.get(way)):
                    place = math.log10(value) if logarithmic and value > 0 else value
                    if not low - slack <= place <= high + slack or (logarithmic and value <= 0):
                        found.append((trace.get("name"), way, value, axis["range"]))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_cuts_off_its_data(page):
    for name, _, data in figures(PAGES[page]):
        for place, figure in shown(data):
            assert outside(figure) == [], f"{page}#{name}, state {place}"


@pytest.mark.parametrize("page", PAGES)
def test_no_caption_names_a_colour_or_a_look_that_its_figure_lacks(page):
    for name, caption, data in figures(PAGES[page]):
        leaves = [(key_of(path), leaf) for _, figure in shown(data) for path, leaf in walk(figure)]
        colours = {str(leaf).upper() for _, leaf in leaves} | {_solid(leaf) for _, leaf in leaves}
        for word, hues in HUES.items():
            if re.search(rf"\b{word}\b", caption, re.I):
                assert colours & {hue.upper() for hue in hues}, f"{page}#{name} has nothing {word}: {caption}"
        for word, has in LOOKS.items():
            if re.search(rf"\b{word}s?\b", caption, re.I):
                assert any(has(*leaf) for leaf in leaves), f"{page}#{name} has nothing {word}: {caption}"


def key_of(path):
    """The last name of a path, numbers of a list left out."""
    return next(key for key in reversed(path) if isinstance(key, str))


def _solid(leaf):
    """A transparent tint as the colour that it is a tint of."""
    tint = re.match(r"rgba\((\d+), ?(\d+), ?(\d+)", str(leaf))
    return "#{:02X}{:02X}{:02X}".format(*map(int, tint.groups())) if tint else ""


@pytest.mark.parametrize("page", PAGES)
def test_hatching_keeps_the_colour_under_it(page):
    for name, _, data in figures(PAGES[page]):
        for place, figure in shown(data):
            for trace in figure["data"]:
                pattern = trace.get("marker", {}).get("pattern", {})
                if any(pattern.get("shape", "")) and "fgcolor" in pattern and "bgcolor" not in pattern:
                    assert pattern.get("fillmode") == "overlay", f"{page}#{name}, state {place}, {trace.get('name')}"
