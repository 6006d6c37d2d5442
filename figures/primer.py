"""Figures of the Triton primer: which elements a program touches."""

from figures import theme


def _places(program, block, size):
    first = program * block
    return [1 if first <= place < min(first + block, size) else 0 for place in range(size)]


def program_blocks(program=0, block=8, size=20):
    """Which elements does a program touch? `size` elements, those of one program marked, lanes past the end too."""
    import plotly.graph_objects as go

    programs = -(-size // block)
    width = max(programs * block, size)
    mine = range(program * block, program * block + block)
    kinds = [3 if place in mine and place >= size else 2 if place in mine else 1 if place < size else 0
             for place in range(width)]  # fmt: skip
    marks = ["", "·", "✓", "✕"]
    colours = ["rgba(0,0,0,0)", theme.GRID, theme.BLUE, theme.ORANGE]
    scale = [[edge / 4, colours[kind]] for kind in range(4) for edge in (kind, kind + 1)]
    per_row = 16
    rows = -(-width // per_row)
    cells = [kinds[i] if i < width else 0 for i in range(rows * per_row)]
    grid = [cells[row * per_row : (row + 1) * per_row] for row in range(rows)]
    notes = [
        dict(text=marks[kind] if place < width else "", x=place % per_row, y=place // per_row, showarrow=False,
             font=dict(size=theme.LARGE, color="#ffffff" if kind == 2 else "#000000" if kind == 3 else theme.INK))
        for place, kind in enumerate(cells) if kind
    ]  # fmt: skip
    key = (
        f'<span style="color:{theme.BLUE}">■</span> ✓ loaded by this program  '
        f'<span style="color:{theme.ORANGE}">■</span> ✕ lane masked off  · others'
    )
    return theme.figure(
        go.Heatmap(z=grid, zmin=-0.5, zmax=3.5, colorscale=scale, showscale=False, xgap=2, ygap=2, hoverinfo="skip"),
        height=110 + 46 * rows, annotations=[theme.heading(key), *notes],
        xaxis=dict(title=dict(text="element, sixteen a line"), tickvals=[0, 4, 8, 12], showgrid=False),
        yaxis=dict(autorange="reversed", showticklabels=False, showgrid=False, domain=[0, 0.8]),
    )  # fmt: skip


def program_blocks_says(program=0, block=8, size=20):
    """`program_blocks` in a sentence."""
    inside, programs = sum(_places(program, block, size)), -(-size // block)
    if not inside:
        return f"{size} elements need {programs} programs of {block}: a program {program} would have nothing to do."
    off = block - inside
    masked = f", and {off} of its lanes fall past the end: masked off" if off else ""
    first = program * block
    return f"Program {program} of {programs} owns elements {first} to {first + inside - 1}{masked}."
