"""The picture at the head of the book: squares of 64 cells, of which ever fewer are full. It needs no script.

The text of one conversation takes 64 GiB at the start, and AdamW 64 bits per weight: one square serves for both. Every
number is the bill's.
"""

import html
import math
from dataclasses import dataclass

from effattn_core import bill
from figures import theme

CELLS, SIDE = 64, 8  # cells of a square, and along its side
GIB = 2.0**30
FULL, LOWERED, PALE = "#8C8C8C", theme.BLUE, "rgba(0,114,178,0.35)"  # as on the bill: grey is the start
TEXT = "font:inherit;color:inherit;line-height:1.35;text-align:left"


@dataclass(frozen=True)
class Square:
    """One square: the amount over it, the words under it, how many of its cells are full, and how many only pale.

    apart: full cells lie scattered among the pale ones, as chosen blocks do in a cache.
    """

    amount: str
    words: str
    full: float
    pale: float = 0.0
    apart: bool = False

    def says(self):
        """The square in words, for who cannot see it."""
        pale = f", {theme.significant(self.pale)} pale" if self.pale else ""
        return f"{theme.significant(self.full)} of {CELLS} cells are full{pale}."


def squares():
    """The squares in the order of the chapters: what is kept of the text, what is read of it, and a weight's moments.

    Raises ValueError for a model whose text or whose optimizer would not fit its square.
    """
    cached = {topic: bill.lines(topic)["cache"] for topic in (None, "attention", "retention", "yoco")}
    kept = {topic: (line.amount(), line.value / GIB) for topic, line in cached.items()}
    decode, moments = bill.lines("rectified")["decode"], bill.lines("lowbit")["optimizer"]
    bits = [8 * each.value / bill.MODEL.parameters for each in (bill.lines()["optimizer"], moments)]
    for name, most in (("GiB of text", kept[None][1]), ("bits per weight", bits[0])):
        if most != CELLS:
            raise ValueError(f"the first square must be full, with {CELLS} {name}; the bill starts with {most:g}.")
    shared, read = kept["attention"][1], decode.text / GIB
    return [
        Square(kept[None][0], "softmax keeps every token", kept[None][1]),
        Square(kept["attention"][0], "heads share keys", shared),
        Square(kept["retention"][0], "one matrix per head", kept["retention"][1]),
        Square(kept["yoco"][0], "one cache for upper layers", kept["yoco"][1]),
        Square(decode.amount(decode.text), f"read of {kept['attention'][0]}: few blocks", read, shared, True),
        Square(f"{theme.significant(bits[1])} bits", f"per weight in training, of {bits[0]:g}", bits[1]),
    ]


def picture():
    """What the book is about, in one glance: a `Picture` for a notebook's cell."""
    return Picture(squares())


def caption():
    """What a cell is, and of which model: the sentence under the picture."""
    size = f"{bill.MODEL.parameters / 1e9:.0f} billion parameters"
    return (
        f"One conversation of {theme.tokens(bill.CONTEXT)} tokens with a Transformer of {size}. A cell is 1 GiB of "
        "what is kept of the text, in the fifth square of what a new token reads of it; in the last, one bit of what "
        "the optimizer keeps per weight."
    )


class Picture(theme.Shown):
    """Squares in a row, two rows on a phone."""

    def __init__(self, shown):
        self.shown = shown

    def to_html(self):
        place = "display:grid;grid-template-columns:repeat(auto-fit,minmax(98px,1fr));gap:1rem 0.8rem"
        return "\n".join([
            f'<div class="explorable front"><figure style="margin:0.5rem 0 1rem"><div style="{place}">',
            *map(_tile, self.shown),
            f'</div><figcaption style="{TEXT};opacity:0.85">{html.escape(caption())}</figcaption></figure></div>',
        ])  # fmt: skip

    def __str__(self):
        return "\n".join([caption(), *(f"{each.amount}: {each.words}. {each.says()}" for each in self.shown)])


def _tile(square):
    text = f"<b>{html.escape(square.amount)}</b><br>{html.escape(square.words)}"
    return f'<div style="{TEXT}">{_svg(square)}<div>{text}</div></div>'


def _svg(square):
    """The cells, row by row: pale ones first, full ones over them; then the lines between all."""
    colour = FULL if square.full == CELLS else LOWERED
    every = square.pale / square.full if square.apart else 1
    rows = [_cells(square.pale, PALE), _cells(square.full, colour, every)]
    lines = "".join(f"M{at} 0V{SIDE}M0 {at}H{SIDE}" for at in range(SIDE + 1))
    return (
        f'<svg viewBox="-0.1 -0.1 {SIDE + 0.2} {SIDE + 0.2}" role="img" aria-label="{html.escape(square.says())}" '
        f'style="display:block;width:100%;max-width:9rem;margin-bottom:0.3rem">{"".join(rows)}'
        f'<path d="{lines}" fill="none" stroke="currentColor" stroke-opacity="0.4" stroke-width="0.06"/></svg>'
    )


def _cells(count, colour, every=1):
    """`count` cells as SVG, the last of them in part; from each to the next it is `every` places, rounded down."""
    shapes = []
    for number in range(math.ceil(count)):
        place, part = int(number * every), min(1.0, count - number)
        shapes.append(f'<rect x="{place % SIDE}" y="{place // SIDE}" width="{part:.4g}" height="1" fill="{colour}"/>')
    return "".join(shapes)
