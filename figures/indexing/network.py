"""How eight numbers are sorted by comparing pairs: Batcher's network, column by column as the kernel runs it."""

from figures import theme

# The eight numbers of the figure beside it, in which two sorted lists are merged, before anyone sorted them.
NUMBERS = (7, 1, 8, 4, 2, 9, 3, 6)
KEPT = len(NUMBERS) // 2  # the best numbers, which are drawn apart


def network(length):
    """Batcher's columns for a power of two: (length of the runs that are made, [(wire of the smaller, of the larger)]).

    A column compares wires that are a distance apart; runs turn by turn ascend and descend, the last one ascends.
    """
    power = length.bit_length() - 1
    for stage in range(1, power + 1):
        for step in range(stage):
            distance = 1 << (stage - step - 1)
            pairs = [(wire, wire + distance) for wire in range(length) if not wire & distance]
            turned = [pair[::-1] if stage < power and pair[0] >> stage & 1 else pair for pair in pairs]
            yield 2**stage, turned


def states(numbers):
    """The numbers before the network and after each of its columns."""
    found = [list(numbers)]
    for _, pairs in network(len(numbers)):
        now = list(found[-1])
        for low, high in pairs:
            now[low], now[high] = min(now[low], now[high]), max(now[low], now[high])
        found.append(now)
    return found


def sorting():
    """How do comparisons of pairs sort? Eight numbers through Batcher's network, each on its wire, column by column."""
    import plotly.graph_objects as go

    columns, numbers = list(network(len(NUMBERS))), states(NUMBERS)
    best = sorted(NUMBERS)[-KEPT:]
    traces = []
    for large, name, symbol, colour in (
        (True, "the four largest", "circle", theme.BLUE), (False, "the others", "square-open", theme.VERMILLION)
    ):  # fmt: skip
        at = [(column, wire) for column, each in enumerate(numbers) for wire, number in enumerate(each)
              if (number in best) == large]  # fmt: skip
        traces.append(go.Scatter(
            x=[column for column, _ in at], y=[wire for _, wire in at], name=name, mode="markers+text",
            hoverinfo="skip",
            text=[str(numbers[column][wire]) for column, wire in at],
            textfont=dict(size=theme.LARGE, color="#FFFFFF" if large else theme.INK),
            marker=dict(symbol=symbol, size=24, color=colour, line=dict(width=2)),
        ))  # fmt: skip
    lines, ends = [], []
    for column, (_, pairs) in enumerate(columns):
        for place, (low, high) in enumerate(pairs):
            x = column + 0.5 + 0.09 * (place % 4 - 1.5)
            lines.append(dict(type="line", x0=x, x1=x, y0=low, y1=high, line=dict(color=theme.INK, width=2)))
            ends.append((x, high))
    traces.append(go.Scatter(
        x=[x for x, _ in ends], y=[y for _, y in ends], name="where the larger goes", mode="markers", hoverinfo="skip",
        marker=dict(symbol="diamond", size=8, color=theme.INK),
    ))  # fmt: skip
    wires = [dict(type="line", x0=0, x1=len(columns), y0=wire, y1=wire, layer="below",
                  line=dict(color=theme.GRID, width=1)) for wire in range(len(NUMBERS))]  # fmt: skip
    stages = sorted({run for run, _ in columns})
    middle = {run: [column + 0.5 for column, (each, _) in enumerate(columns) if each == run] for run in stages}
    notes = [dict(text=f"runs of {run}", x=sum(middle[run]) / len(middle[run]), y=-1.0, showarrow=False,
                  font=dict(size=theme.SMALL)) for run in stages]  # fmt: skip
    brackets = [dict(type="line", x0=min(middle[run]) - 0.35, x1=max(middle[run]) + 0.35, y0=-0.6, y1=-0.6,
                     line=dict(color=theme.QUIET, width=2)) for run in stages]  # fmt: skip
    hidden = dict(showticklabels=False, showgrid=False, ticks="")
    return theme.figure(
        *traces, height=420, shapes=[*wires, *lines, *brackets], annotations=notes, showlegend=True,
        margin=dict(l=8, r=8, t=30, b=8), xaxis=dict(range=[-0.4, len(columns) + 0.4], **hidden),
        yaxis=dict(range=[len(NUMBERS) - 0.4, -1.4], **hidden),
    )  # fmt: skip


def sorting_says():
    """`sorting` in a sentence."""
    runs = [run for run, _ in network(len(NUMBERS))]
    steps = "; ".join(
        f"after runs of {run}: {' '.join(map(str, each))}"
        for run, following, each in zip(runs, [*runs[1:], None], states(NUMBERS)[1:], strict=True)
        if run != following
    )
    return f"Eight numbers, {' '.join(map(str, NUMBERS))}, through {len(runs)} columns of four comparisons: {steps}."
