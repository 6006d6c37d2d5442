"""What every figure of the book is held to: colours of the theme, type that can be read, narrow forms that exist."""

import itertools
import re

from figures import codec, theme
from figures.retention.forms import CLEAR

COLOURS = {*theme.ROLES, *theme.CLASSES.values(), "#000000", "#ffffff", CLEAR}


def walk(node, path=()):
    """(path, leaf) of everything in a figure's dict."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in entries:
        if isinstance(each, (dict, list)):
            yield from walk(each, (*path, key))
        else:
            yield (*path, key), each


def check_states(build, says, longest, **grid):
    """Every state of a figure is legible, and says a sentence of its own of under `longest` letters."""
    states = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for state in states:
        check_legible(build(**state))
    sentences = [says(**state) for state in states]
    assert all(sentence.endswith(".") and len(sentence) < longest for sentence in sentences)
    assert len(set(sentences)) == len(sentences)


def check_legible(figure):
    """Theme colours only, no type below the smallest, and every narrow change changes something that is there."""
    plain = codec.plain(figure)
    for path, leaf in walk(plain):
        if "colorscale" not in path and isinstance(leaf, str) and re.match(r"#|rgb", leaf):
            assert leaf in COLOURS, (path, leaf)
        if path[-2:] in (("font", "size"), ("textfont", "size")):
            assert leaf >= theme.SMALL, (path, leaf)
    narrow = plain["layout"].get("meta", {}).get("narrow", {})
    for path in narrow:
        node = plain["layout"]
        for key in path.split(".")[:-1]:
            node = node[int(key) if isinstance(node, list) else key]


def notes(figure):
    return [note.text for note in figure.layout.annotations]
