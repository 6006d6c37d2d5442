"""Figures of what was measured: how something grows with the tokens, how losses fall. For any topic and any names."""

import re

from effattn_core.benchmarks import MOST_SPREAD
from figures import theme

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def looks(names):
    """(name, colour, dash, symbol) of each name; ValueError where they could not be told apart."""
    if not 1 <= len(names) <= len(DASHES):
        raise ValueError(f"lines for 1 to {len(DASHES)} names can be told apart; got {len(names)}.")
    return list(zip(names, theme.CLASSES.values(), DASHES, SYMBOLS, strict=False))


def place(provenance):
    """Where something was measured, in words: "a CPU, 1 thread". provenance: of a measurement's file."""
    return re.sub(r"^CPU, (\d+) threads?$", lambda found: f"a CPU, {_threads(int(found[1]))}", provenance["device"])


def _threads(count):
    return "1 thread" if count == 1 else f"{count} threads"


def _grouped(rows):
    """Rows by name, in order of tokens. ValueError if there is none, or one lacks what is drawn or spreads too far."""
    rows = list(rows)
    if not rows:
        raise ValueError("growth needs at least one row; it was given none.")
    for row in rows:
        for key in ("name", "tokens", "median", "lower_quartile", "upper_quartile"):
            if key not in row:
                raise ValueError(f"each row needs {key!r}; one has {', '.join(map(str, row))}.")
        spread(row)
    names = dict.fromkeys(row["name"] for row in rows)
    return {name: sorted((row for row in rows if row["name"] == name), key=lambda row: row["tokens"]) for name in names}


def spread(row, most=MOST_SPREAD):
    """Upper quartile less the lower, as a share of the median: how far one call was from another.

    row: as `kernels.bench` writes it. Raises ValueError for a spread above `most`: such a median is measured again,
    and neither drawn nor printed.
    """
    wide = (row["upper_quartile"] - row["lower_quartile"]) / row["median"]
    if wide > most:
        where = ", ".join(str(row[key]) for key in ("what", "name") if key in row)
        raise ValueError(
            f"{where} at {row['tokens']:,} tokens spreads over {wide:.0%} of its median; above {most:.0%} the median "
            "says little: measure it again on a quiet machine (make bench or make runs)."
        )
    return wide


def growth(rows, title, scale=1.0, logarithmic=True):
    """What does it cost as the text grows? Medians over tokens, the quartiles as bars; one line per name.

    rows: dicts with name, tokens, median, lower_quartile, upper_quartile, as `kernels.bench` writes them in seconds.
    title: of the upward axis, with its unit. scale: into that unit, 1e3 for milliseconds.
    """
    import plotly.graph_objects as go

    groups, traces = _grouped(rows), []
    for name, colour, dash, symbol in looks(list(groups)):
        low, median, high = (
            [scale * row[key] for row in groups[name]] for key in ("lower_quartile", "median", "upper_quartile")
        )
        bars = dict(
            type="data", symmetric=False, thickness=1.5, width=5, color=theme.INK,
            array=[top - middle for top, middle in zip(high, median, strict=True)],
            arrayminus=[middle - bottom for middle, bottom in zip(median, low, strict=True)],
        )  # fmt: skip
        traces.append(go.Scatter(
            x=[row["tokens"] for row in groups[name]], y=median, error_y=bars, mode="lines+markers", name=str(name),
            line=dict(color=colour, dash=dash, width=3), marker=dict(symbol=symbol, size=10),
            hovertemplate="%{x:,} tokens: %{y:.3g}<extra>" + str(name) + "</extra>",
        ))  # fmt: skip
    tokens = sorted({row["tokens"] for group in groups.values() for row in group})
    vertical = dict(type="log", dtick=1) if logarithmic else dict(rangemode="tozero")
    return theme.figure(
        *traces, height=380, showlegend=True,
        xaxis=dict(type="log", title=dict(text="tokens"), tickvals=tokens, ticktext=list(map(theme.tokens, tokens))),
        yaxis=dict(title=dict(text=title), exponentformat="none", **vertical),
    )  # fmt: skip


def growth_says(rows, title, scale=1.0, logarithmic=True):
    """`growth` in a sentence: where each line starts and ends."""
    parts = []
    for name, group in _grouped(rows).items():
        ends = first, last = group[0]["median"], group[-1]["median"]
        start, end = (
            f"{theme.significant(scale * median)} at {theme.tokens(row['tokens'])} tokens"
            for median, row in zip(ends, (group[0], group[-1]), strict=True)
        )
        times = theme.significant(last / first, 2)
        grown = "as much" if times == "1" else f"{times} times as much"
        parts.append(f"{name} from {start} to {end}, {grown}" if len(group) > 1 else f"{name} {start}")
    return f"{title[:1].upper()}{title[1:]}: {'; '.join(parts)}."


def _running_mean(values, window):
    """The mean of each value and of up to window - 1 before it."""
    return [sum(part := values[max(0, end - window) : end]) / len(part) for end in range(1, len(values) + 1)]


def _smooth(histories, every):
    """(smoothed losses by name, steps that each is the mean of, steps from one to the next).

    A fortieth of the longest run, at least one step; what is the mean of `every` steps already stays as it is.
    """
    if not histories or not all(len(losses) for losses in histories.values()):
        raise ValueError("losses needs at least one model, and a loss of each; it was given none.")
    if every is not None:
        return histories, every, every
    window = max(1, max(map(len, histories.values())) // 40)
    return {name: _running_mean(list(losses), window) for name, losses in histories.items()}, window, 1


def losses(histories, title="training loss, nats per letter", every=None):
    """How do the models learn? Training losses by step, each the mean of the last few; one line per name.

    histories: a dict from name to the list of losses, as `effattn_core.train.History` holds them. every: steps that
    each of them is the mean of already, as a recorded curve has them: then nothing is averaged again.
    """
    import plotly.graph_objects as go

    smooth, window, step = _smooth(histories, every)
    traces = [
        go.Scatter(
            x=[step * (place + 1) for place in range(len(smooth[name]))], y=list(smooth[name]), mode="lines",
            name=str(name), line=dict(color=colour, dash=dash, width=3),
            hovertemplate="step %{x}: %{y:.3f}<extra>" + str(name) + "</extra>",
        )
        for name, colour, dash, _ in looks(list(smooth))
    ]  # fmt: skip
    mean = f"step (each point: the mean of {window} steps)" if window > 1 else "step"
    return theme.figure(
        *traces, height=360, showlegend=True, xaxis=dict(title=dict(text=mean)), yaxis=dict(title=dict(text=title)),
    )  # fmt: skip


def losses_says(histories, title="training loss, nats per letter", every=None):
    """`losses` in a sentence: the mean loss of each model at its end."""
    smooth, window, step = _smooth(histories, every)
    ends = "; ".join(f"{name} {each[-1]:.2f} after {step * len(each):,} steps" for name, each in smooth.items())
    return f"{title[:1].upper()}{title[1:]}, mean of the last {window} steps: {ends}."
