"""What `make bench` recorded, seen: tables of pairs and of recordings, and the ratio to the peer over all shapes."""

import html

from effattn_core.benchmarks import METHOD, PEER, name_of, taken
from figures import theme

ALL = "all topics"
KINDS = {PEER: (theme.BLUE, "circle"), METHOD: (theme.ORANGE, "diamond")}
SHORT = {"this book": "ours", "flash-linear-attention": "FLA"}
FIELDS = {"head_dim": "head dim {}", "architecture": "sm_{}"}  # of a compiled kernel, in words
TICKS = (0.001, 0.01, 0.1, 1, 10, 100)


class Folded(theme.Shown):
    """A table behind a line that opens it: for what is long and rarely read whole."""

    def __init__(self, table, summary):
        self.table, self.summary = table, summary

    def to_html(self):
        return f"<details><summary>{html.escape(self.summary)}</summary>\n{self.table.to_html()}\n</details>"

    def __str__(self):
        return f"{self.summary}\n{self.table}"


def shape_words(shape):
    """A shape in words: "tokens 1,024, batch 1, head dim 64"."""
    return ", ".join(
        f"{field.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{field.replace('_', ' ')} {value}"
        for field, value in shape
    )


def seconds(row):
    """Median and quartiles in milliseconds: "30 (29.8–31.6)"."""
    middle, low, high = (
        theme.significant(1e3 * taken(row, key)) for key in ("median", "lower_quartile", "upper_quartile")
    )
    return f"{middle} ({low}–{high})"


def times(pair):
    """A pair's ratio and its interval: "0.83 (0.8–0.87)"."""
    low, high = (theme.significant(each) for each in pair.interval)
    return f"{theme.significant(pair.ratio)} ({low}–{high})"


def where(pair):
    return f"{pair.what}, {shape_words(pair.shape)}"


def names(pair):
    return f"{name_of(pair.ours)} beside {name_of(pair.theirs)}"


def pair_table(pairs, caption):
    """A table of pairs: the shape, both medians with their quartiles, and how many times as fast ours is.

    What all shapes share is said once, in the caption.
    """
    shapes = [dict(pair.shape) for pair in pairs]
    shared = {field: value for field, value in shapes[0].items() if all(each.get(field) == value for each in shapes)}
    rows = [
        {"what and shape": ", ".join([pair.what, *([varying] if varying else [])]),
         "ours": name_of(pair.ours), "ours, ms": seconds(pair.ours),
         "beside": name_of(pair.theirs), "beside, ms": seconds(pair.theirs), "ratio": times(pair),
         "beside is": pair.kind}
        for pair in pairs
        for varying in [shape_words((field, value) for field, value in pair.shape if field not in shared)]
    ]  # fmt: skip
    everywhere = f" At all shapes: {shape_words(shared.items())}." if shared and len(pairs) > 1 else ""
    return theme.table(rows, caption=caption + everywhere, cards=True)


def alone_table(recording, caption):
    """A table of the rows of a recording that stand in no pair."""
    known = {"what", "name", "way", "correct", "median", "lower_quartile", "upper_quartile", "ratio", "repeats"}
    rows = [
        {"what and shape": f"{row['what']}, " + shape_words(
            (key, value) for key, value in row.items() if key not in known and isinstance(value, (int, str))),
         "name": name_of(row), "ms": seconds(row)}
        for row in recording.alone
    ]  # fmt: skip
    return theme.table(rows, caption=caption, cards=True)


def recording_table(recordings, caption):
    """One row per recording: its file, device, versions, commit, date, and what of it is timed."""
    rows = []
    for each in recordings:
        made = each.provenance
        rows.append(
            {"recording": each.name, "device": each.device,
             "versions": f"{made['processor']}, Python {made['python']}, "
                         f"torch {made['torch']}, Triton {made['triton']}",
             "commit": made["commit"], "date": made["date"], "timed": len(each.timed)}
        )  # fmt: skip
    return theme.table(rows, caption=caption, cards=True)


def losing_summary(recordings, caption):
    """One row per recording with pairs: how many lose, to whom, and the worst of them."""
    rows = []
    for each in recordings:
        lost = sorted((pair for pair in each.pairs if pair.loses), key=lambda pair: pair.ratio)
        worst = lost[0] if lost else None
        if each.pairs:
            rows.append(
                {"topic": each.name.removesuffix(".json"), "pairs": len(each.pairs), "lose": len(lost),
                 "to a peer": sum(pair.kind == PEER for pair in lost), "open": sum(pair.open for pair in lost),
                 "worst": times(worst) if lost else "none loses", "which": worst and f"{names(worst)}, {where(worst)}"}
            )  # fmt: skip
    return theme.table(rows, caption=caption, cards=True)


def passes(recording):
    """Rows of compiled kernels, summed per pass: ours beside the peer's; `ratio` is our bytes over theirs."""
    groups, fields = {}, ("part", "pass", "head_dim", "dtype", "architecture")
    for row in recording.rows:
        key = tuple((field, row[field]) for field in fields if field in row)
        groups.setdefault(key, {}).setdefault(row["library"], []).append(row)
    for key, libraries in groups.items():
        total = {library: sum(row["bytes"] for row in rows) for library, rows in libraries.items()}
        ours, words = total.get("this book"), ", ".join(FIELDS.get(field, "{}").format(value) for field, value in key)
        for library, rows in libraries.items():
            yield {
                "pass": words, "of": SHORT.get(library, library), "kernels": len(rows),
                "bytes": total[library], "ratio": ours / total[library] if ours else None,
                "registers": max(row["registers"] for row in rows), "spills": sum(row["spills"] for row in rows),
                "occupancy": min(row["occupancy"] for row in rows),
            }  # fmt: skip


def chosen(pairs, topic, device):
    """The pairs that a state of `ratios` draws."""
    return [
        pair for pair in pairs
        if topic in (ALL, pair.recording.topic) and device in (None, pair.recording.device)
    ]  # fmt: skip


def ratios(pairs, topic=ALL, device=None):
    """How many times as fast is ours? One dot per shape and pair over a logarithmic axis; left of 1 ours is slower.

    topic: one of the pairs' topics, then a line per pair of names, or ALL, then a line per topic. device: one of the
    recordings' devices, by default all of them.
    """
    import plotly.graph_objects as go

    shown, traces = chosen(pairs, topic, device), []
    for kind, (colour, symbol) in KINDS.items():
        group = [pair for pair in shown if pair.kind == kind]
        traces.append(go.Scatter(
            x=[round(pair.ratio, 4) for pair in group], y=[_line(pair, topic) for pair in group], mode="markers",
            name=f"beside: {kind}", marker=dict(color=colour, symbol=symbol, size=9, opacity=0.75),
            text=[where(pair) if topic != ALL else f"{names(pair)}, {where(pair)}"
                  for pair in group],
            hovertemplate="%{x:.3g} times as fast<br>%{text}<extra></extra>",
        ))  # fmt: skip
    lines = list(dict.fromkeys(_line(pair, topic) for pair in shown))
    one = dict(type="line", x0=1, x1=1, y0=0, y1=1, yref="paper", line=dict(color=theme.INK, width=2, dash="dash"))
    return theme.figure(
        *traces, height=max(300, 130 + 30 * len(lines)), showlegend=True, shapes=[one],
        xaxis=dict(type="log", title=dict(text="times as fast (1: equal)"),
                   tickvals=TICKS, ticktext=[theme.significant(tick) for tick in TICKS]),
        yaxis=dict(type="category", categoryorder="array", categoryarray=lines[::-1]),
    )  # fmt: skip


def _line(pair, topic):
    if topic == ALL:
        return pair.recording.topic
    other = "the fastest way without" if pair.fastest else name_of(pair.theirs)
    return f"{name_of(pair.ours)}<br>beside {other}"


def ratios_says(pairs, topic=ALL, device=None):
    """`ratios` in a sentence: how many dots lie left of 1, and the ends."""
    shown = sorted(chosen(pairs, topic, device), key=lambda pair: pair.ratio)
    at = f"{topic[:1].upper()}{topic[1:]}" + (f" on {device}" if device else "")
    if not shown:
        return f"{at}: nothing is recorded."
    lost, (worst, best) = sum(pair.loses for pair in shown), (shown[0], shown[-1])
    ends = "; ".join(
        f"{word} {theme.significant(pair.ratio, 2)} times as fast, {names(pair)}, {where(pair)}"
        for word, pair in (("the least is", worst), ("the most", best))
    )
    return f"{at}: of {len(shown)} dots {lost} lie left of 1, where ours is slower; {ends}."
