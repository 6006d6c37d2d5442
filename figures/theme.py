"""One look for every figure and table: the palette, the plotly template, and `table`.

A figure is drawn once and shown on light and on dark pages. Text, grid and background therefore take one of the ROLES
below: middle greys that can be read on both, which `book/_static/explore.js` replaces by the page's own colours.
"""

import functools
import html
import re

# Okabe and Ito's colours, safe for the colour-blind. Those read well on white and on black come first.
CLASSES = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
}
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = CLASSES.values()
MAGNITUDE = "Cividis"  # one hue's worth of order, from dark to light, for anyone's eyes

INK, QUIET, GRID, PAPER = "#777777", "#797979", "#80808040", "#80808001"
ROLES = {INK: "ink", QUIET: "quiet", GRID: "grid", PAPER: "paper"}

SENTENCE = 100  # characters of a table's cell that a phone cannot show in a column
NAME = 20  # characters of a name in code that a table's column holds in one line

SMALL, NORMAL, LARGE = 12, 13, 15  # pixels; nothing in a figure is smaller than SMALL


def layout(**changes):
    """The layout that every figure starts from, with `changes` laid over it: a dict for `go.Layout`."""
    axis = dict(
        automargin=True, fixedrange=True, zeroline=False, gridcolor=GRID, linecolor=QUIET, tickcolor=QUIET,
        tickfont=dict(size=SMALL, color=INK), title=dict(font=dict(size=NORMAL, color=INK), standoff=8),
    )  # fmt: skip
    base = dict(
        font=dict(family="system-ui, sans-serif", size=NORMAL, color=INK),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=list(CLASSES.values()),
        colorscale=dict(sequential=MAGNITUDE),
        margin=dict(l=8, r=8, t=8, b=8),
        dragmode=False,
        xaxis=axis,
        yaxis=axis,
        legend=dict(orientation="h", x=0, y=1, yanchor="bottom", font=dict(size=SMALL, color=INK)),
        annotationdefaults=dict(showarrow=False, font=dict(size=NORMAL, color=INK)),
        hoverlabel=dict(font=dict(size=NORMAL), align="left"),
    )
    return {**base, **changes}


@functools.cache
def template():
    """The plotly template of the book: `layout()` under every figure, whatever its builder set."""
    import plotly.graph_objects as go

    return go.layout.Template(layout=layout())


def figure(*traces, height=380, **settings):
    """A plotly figure in the book's theme, `height` pixels high. `settings` go to its layout."""
    import plotly.graph_objects as go

    return go.Figure(list(traces), dict(template=template(), height=height, **settings))


def significant(value, digits=3):
    """A number in words short enough to read: 0.0312, 4.5, 16, 131,072. No exponent between 1e-4 and 1e15."""
    rounded = float(f"{value:.{digits}g}")
    if rounded == 0 or 1e-4 <= abs(rounded) < 1e15:
        decimals = max(0, digits - 1 - _magnitude(rounded))
        text = f"{rounded:,.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{rounded:.{digits}g}"


def _magnitude(value):
    return int(f"{value:e}".split("e")[1])


def tokens(count):
    """A number of tokens as the field writes it: 131072 is 128K, 1048576 is 1M."""
    for size, letter in ((1 << 20, "M"), (1 << 10, "K")):
        if count >= size and count % size == 0:
            return f"{count // size}{letter}"
    return f"{count:,}"


def heading(text, axis="", side="left", row=None):
    """An annotation over a panel (`axis` is plotly's number of it), or over the bar at height `row` within it."""
    edge = dict(left=0, right=1)[side]
    place = dict(x=edge, xref=f"x{axis} domain", xanchor=side, yanchor="bottom", showarrow=False, align=side)
    if row is None:
        return dict(text=text, y=1, yref=f"y{axis} domain", yshift=4, font=dict(size=NORMAL), **place)
    return dict(text=text, y=row + 0.25, yref=f"y{axis}", yshift=1, font=dict(size=NORMAL), **place)


def hatched(colour, shape):
    """A bar's marker: black hatching over `colour`, which stays. shape: plotly's, "" for none."""
    return dict(color=colour, pattern=dict(shape=shape, solidity=0.3, fgcolor="#000000", fillmode="overlay"))


def inline(text):
    """Escaped HTML of a sentence, with `code` in backquotes and *emphasis* in stars."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", text)


def _in_cell(text):
    """`inline` for a column: a long name of the code may break after its dots and underscores."""
    long = rf"(?<=<code>)[^<\s]{{{NAME + 1},}}(?=</code>)"
    return re.sub(long, lambda found: re.sub(r"(?<=\w[._])(?=\w)", "<wbr>", found[0]), inline(text))


class Shown:
    """What a notebook shows as the same HTML on every machine: `to_html` makes it, and `str` says it in words."""

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.to_html(), "text/plain": str(self)}

    def __repr__(self):
        return str(self)


def in_script(text):
    """JSON as it may stand in a <script>, which no tag within may end early."""
    return text.replace("<", "\\u003c")


class Table(Shown):
    """A table of rows. Made by `table`."""

    def __init__(self, rows, caption, columns, cards=False):
        self.rows, self.caption, self.columns, self.cards = rows, caption, columns, cards

    def to_html(self):
        """The table in a region that scrolls sideways on a phone, so that the page does not.

        Where a cell holds sentences, or `cards` asks for it, a phone shows each row as a card instead: cells then carry
        their column's name.
        """
        sentences = any(len(_cell(row.get(key))) > SENTENCE for row in self.rows for key in self.columns)
        kind = "explorable-table" + (" sentences" if sentences else " cards" if self.cards else "")
        named = sentences or self.cards
        name = {key: f' data-column="{html.escape(title)}"' if named else "" for key, title in self.columns.items()}
        numeric = {key for key in self.columns if all(_is_number(row.get(key)) for row in self.rows)}
        side = {key: ' class="number"' if key in numeric else "" for key in self.columns}
        head = "".join(f'<th scope="col"{side[key]}>{inline(title)}</th>' for key, title in self.columns.items())
        body = "\n".join(
            "<tr>"
            + "".join(f"<td{side[key]}{name[key]}>{_in_cell(_cell(row.get(key)))}</td>" for key in self.columns)
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<div class="{kind}" role="region" tabindex="0" aria-label="{html.escape(self.caption)}">\n'
            f'<table class="table">\n<caption>{inline(self.caption)}</caption>\n'
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
        )

    def __str__(self):
        lines = [list(self.columns.values())] + [[_cell(row.get(key)) for key in self.columns] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join([self.caption, *(line.rstrip() for line in text)])


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value):
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return significant(value) if isinstance(value, float) else str(value)


def table(rows, *, caption, columns=None, cards=False):
    """A table of `rows` (dicts): numbers to three digits and aligned right, True and False as yes and no.

    columns: the keys to show, in order, or a dict from key to heading; by default every key of the first row.
    cards: whether a phone shows a card per row even where no cell holds a sentence, as a table of many columns needs.
    Raises ValueError if there is no row, or no row has one of the columns.
    """
    rows = [dict(row) for row in rows]
    if not rows:
        raise ValueError("table needs at least one row; it was given none.")
    if not isinstance(columns, dict):
        columns = {key: str(key).replace("_", " ") for key in (columns or rows[0])}
    absent = [key for key in columns if not any(key in row for row in rows)]
    if absent:
        raise ValueError(f"table has no column {absent[0]!r}; its rows have {', '.join(map(str, rows[0]))}.")
    return Table(rows, caption, columns, cards)
