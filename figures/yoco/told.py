"""Tables of what was recorded for the YOCO chapter: a row per model, means over seeds, medians of times.

Rows given are those of `book/measurements/yoco/run.py` and `bench.py`, and of retention's runs for the two models that
both chapters train.
"""

from statistics import fmean

from effattn_core import costs
from figures import theme

SPANS = ((0, 256), (256, 512), (2048, 4096))  # letters from, to


def names_of(rows):
    """The models in the order in which they were recorded."""
    return list(dict.fromkeys(row["name"] for row in rows))


def share(needles, name, tokens):
    """The share of facts that a model finds in texts of so many tokens, mean over depths and seeds."""
    return fmean(row["found"] for row in needles if row["name"] == name and row["tokens"] == tokens)


def needles(rows, lengths):
    """A row per model: its parameters, and the facts that it finds in texts of each length."""
    return [
        {"model": name, "parameters": next(row["parameters"] for row in rows if row["name"] == name)}
        | {f"{tokens:,} tokens": f"{share(rows, name, tokens):.0%}" for tokens in lengths}
        for name in names_of(rows)
    ]


def loss(held, name, start=0):
    """Held-out loss in nats per letter of the letters from `start` on, mean over seeds."""
    return fmean(row["loss"] for row in held if row["name"] == name and row["start"] == start)


def losses(held, names):
    """A row per model: its parameters, and its loss by place in the text with the smallest and largest of the seeds."""
    rows = []
    for name in names:
        mine = [row for row in held if row["name"] == name]
        row = {"model": name, "parameters": mine[0]["parameters"]}
        for start, stop in SPANS:
            seeds = [each["loss"] for each in mine if each["start"] == start]
            row[f"letters {start:,} to {stop:,}"] = f"{fmean(seeds):.2f} ({min(seeds):.2f}–{max(seeds):.2f})"
        rows.append(row)
    return rows


def faster(prompts, base="Transformer"):
    """A row per length of a prompt: the time of `base` over that of each other model."""
    taken = {(row["name"], row["tokens"]): row["median"] for row in prompts}
    return [
        {"letters": tokens}
        | {f"against {name}": taken[base, tokens] / taken[name, tokens] for name in names_of(prompts) if name != base}
        for tokens in sorted({row["tokens"] for row in prompts})
    ]


def decoding(rows):
    """A row per model: the bytes that it keeps at the longest text, and how its time per letter grows up to there."""
    found = []
    for name in names_of(rows):
        mine = {row["tokens"]: row for row in rows if row["name"] == name}
        first, last = min(mine), max(mine)
        found.append({
            "model": name,
            f"kept at {theme.tokens(last)}": costs.format_bytes(mine[last]["bytes"]),
            f"time at {theme.tokens(last)} over {theme.tokens(first)}": mine[last]["median"] / mine[first]["median"],
        })  # fmt: skip
    return found
