"""Figures of the Triton primer: which elements a program owns, which tile, and which lines of memory a warp fetches."""

from figures import theme
from kernels import inspect

LINE, SECTOR, LANES = 128, 32, 32  # bytes of a cache line and of a sector of it, threads of a warp
STEPS = [1, 2, 4, 8, 16, 32, 64]
CLEAR = "rgba(0,0,0,0)"
MASKED = "#8888884d"


def _colours(colours):
    """A colour scale for whole numbers 0, 1, 2, …, with zmin and zmax to match."""
    count = len(colours)
    scale = [[edge / count, colour] for at, colour in enumerate(colours) for edge in (at, at + 1)]
    return dict(colorscale=scale, zmin=-0.5, zmax=count - 0.5, showscale=False, hoverinfo="skip")


def program_blocks(block=8, size=20):
    """Which program owns which element? `size` elements in one row, a colour for each program, lanes past the end ✕."""
    import plotly.graph_objects as go

    programs, colours = -(-size // block), list(theme.CLASSES.values())
    width = programs * block
    owners = [2 + place // block % len(colours) if place < size else 1 for place in range(width)]
    names = [
        dict(text=f"<b>{program}</b>", x=program * block + (block - 1) / 2, y=0.62, showarrow=False, yanchor="bottom",
             font=dict(size=theme.NORMAL, color=theme.INK))
        for program in range(programs)
    ]  # fmt: skip
    crosses = [
        dict(text="✕", x=place, y=0, showarrow=False, font=dict(size=theme.SMALL, color=theme.INK))
        for place in range(size, width)
    ]
    key = "owned by program …" + ("  (✕: lane masked off)" if width > size else "")
    return theme.figure(
        go.Heatmap(z=[owners], xgap=2, ygap=0, **_colours([CLEAR, MASKED, *colours])),
        height=170, annotations=[theme.heading(key), *names, *crosses],
        xaxis=dict(title=dict(text="element"), tickvals=[*range(0, size, block), size - 1], showgrid=False),
        yaxis=dict(showticklabels=False, ticks="", showgrid=False, range=[-0.5, 1.2], domain=[0, 0.8]),
    )  # fmt: skip


def program_blocks_says(block=8, size=20):
    """`program_blocks` in a sentence."""
    programs = -(-size // block)
    off = programs * block - size
    masked = f"the last one has {off} lanes past the end, masked off" if off else "and no lane is left over"
    return f"{size} elements in blocks of {block}: {programs} programs; {masked}."


def tiles(row=1, column=2, rows=7, columns=10, block=4):
    """Which tile does program (row, column) read, and where does its transpose land? Both matrices, lanes outside ✕."""
    import plotly.graph_objects as go

    def matrix(down, across, first_row, first_column, axis):
        """The heatmap of one matrix within whole tiles, the program's tile marked."""
        tall, wide = -(-down // block) * block, -(-across // block) * block
        kinds = [
            [
                (1 if i < down and j < across else 0)
                + 2 * (first_row <= i < first_row + block and first_column <= j < first_column + block)
                for j in range(wide)
            ]
            for i in range(tall)
        ]
        crosses = [
            dict(text="✕", x=j, y=i, xref=f"x{axis}", yref=f"y{axis}", showarrow=False,
                 font=dict(size=theme.SMALL, color=theme.INK))
            for i in range(tall) for j in range(wide) if kinds[i][j] == 2
        ]  # fmt: skip
        heat = go.Heatmap(z=kinds, xgap=2, ygap=2, xaxis=f"x{axis}", yaxis=f"y{axis}",
                          **_colours([CLEAR, theme.GRID, MASKED, theme.BLUE]))  # fmt: skip
        return heat, crosses

    source, source_crosses = matrix(rows, columns, row * block, column * block, "")
    target, target_crosses = matrix(columns, rows, column * block, row * block, "2")
    ticks = dict(tickvals=[0, 4, 8], showgrid=False)
    down = dict(autorange="reversed", **ticks)
    return theme.figure(
        source, target,
        height=330,
        annotations=[
            theme.heading("source"), theme.heading("target", "2"), *source_crosses, *target_crosses,
        ],
        xaxis=dict(domain=[0, 0.54], **ticks), yaxis=dict(domain=[0.0, 0.9], **down),
        xaxis2=dict(domain=[0.66, 1.0], **ticks), yaxis2=dict(domain=[0.0, 0.9], anchor="x2", **down),
    )  # fmt: skip


def tiles_says(row=1, column=2, rows=7, columns=10, block=4):
    """`tiles` in a sentence."""
    first_row, first_column = row * block, column * block
    inside = max(0, min(block, rows - first_row)) * max(0, min(block, columns - first_column))
    masked = f"; {block * block - inside} of its {block * block} lanes are masked off" if inside < block * block else ""
    last_row, last_column = min(first_row + block, rows) - 1, min(first_column + block, columns) - 1
    return (
        f"Program ({row}, {column}) reads rows {first_row} to {last_row} and columns {first_column} to {last_column}, "
        f"and writes them as columns and rows of the target{masked}."
    )


def warp_lines(step=1, element=4, lanes=LANES):
    """{line: places within it that are used}, by address: each lane reads one element, `step` after the last lane's.

    element: its bytes; a line is LINE bytes, and so holds LINE / element places.
    """
    lines = {}
    for lane in range(lanes):
        address = lane * step * element
        lines.setdefault(address // LINE, []).append(address % LINE // element)
    return lines


def _fetched(step, element):
    """(lines touched, bytes fetched, share of those used) by one load of a warp: whole sectors are fetched."""
    sectors = {lane * step * element // SECTOR for lane in range(LANES)}
    return len(warp_lines(step, element)), len(sectors) * SECTOR, LANES * element / (len(sectors) * SECTOR)


def coalescing(step=1, element=4):
    """How much does one load of a warp fetch, and use? A row per line: used places blue, their sectors orange."""
    import plotly.graph_objects as go

    lines, wide = warp_lines(step, element), SECTOR // element
    kinds = [
        [
            3 if place in used else 2 if place // wide in {each // wide for each in used} else 1
            for place in range(LINE // element)
        ]
        for used in lines.values()
    ]
    count, _, share = _fetched(step, element)
    key = (
        f"{count} line{'s' * (count > 1)} touched, <b>{100 * share:.3g}% used</b><br>"
        f'<span style="color:{theme.BLUE}">■</span> used  <span style="color:{theme.ORANGE}">■</span> fetched with it'
    )
    return theme.figure(
        go.Heatmap(z=kinds, xgap=1, ygap=1, **_colours([CLEAR, MASKED, theme.ORANGE, theme.BLUE])),
        height=440, annotations=[theme.heading(key)],
        xaxis=dict(title=dict(text="place within the line of 128 bytes"), showgrid=False,
                   tickvals=[0, LINE // element - 1]),
        yaxis=dict(title=dict(text="lines touched"), range=[LANES - 0.5, -0.5], showgrid=False, tickvals=[0, LANES - 1],
                   ticktext=["1", "32"], domain=[0, 0.89]),
    )  # fmt: skip


def step_words(step):
    """What a step from lane to lane means in a table in row order."""
    return "1: along a row" if step == 1 else f"{step}: down a table of {step} columns"


def coalescing_says(step=1, element=4):
    """`coalescing` in a sentence."""
    lines, fetched, share = _fetched(step, element)
    far = "next to each other" if step == 1 else f"{step} elements apart"
    return (
        f"32 lanes read elements of {element} bytes {far}: {lines} line{'s' * (lines > 1)} of 128 bytes touched, "
        f"{fetched:,} bytes fetched, of which {100 * share:.3g}% is used."
    )


def compiled(found):
    """Rows of kernel reports for a table: `kernels.inspect.rows`, what tells two compilations apart, instructions."""
    rows = []
    for row, report in zip(inspect.rows(found), found, strict=True):
        settings = {name: value for name, value in report.constants.items() if name in ("CAUSAL", "PRECISION")}
        rows.append(
            {
                **row,
                "name": " ".join([row["kernel"], *map(str, settings.values())]),
                "compiled with": ", ".join(f"{name}={value}" for name, value in settings.items()) or "–",
                "instructions": sum(report.instructions.values()),
                "float": report.instructions["float"],
            }
        )
    return rows
