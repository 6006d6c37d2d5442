"""What the paper on rectified sparse attention says, and how this library measures it."""

from math import hypot
from statistics import fmean, stdev

import torch

from effattn_core.ledger import Claim, Figure, at_least, beyond, exact, upper_bound, within
from effattn_core.model import Configuration, LanguageModel
from effattn_core.recordings import measured
from effattn_core.rectified import Choice, block_bounds, bound_scores
from effattn_core.rectified import costs as costs_rectified
from effattn_core.rectified.cache import RectifiedCache, RewindableCache, SparseDecoder, states_of

RUN, JUDGED = "rectified/training-cpu", "rectified/smollm2-cpu"

# Averages of the paper's table 1, R1-Distill-Qwen: dense, sparse, ReSA.
TABLE_1 = {"1.5B": (46.82, 43.50, 45.56), "7B": (60.72, 57.72, 60.52)}


def recovered(dense, sparse, rectified):
    """The share of what sparse decoding lost that rectification brings back."""
    return (rectified - sparse) / (dense - sparse)


def table():
    """(least, period) -> the row of the recorded run."""
    return {(row["least"], row["period"]): row for row in measured(RUN, what="table")}


def gap_recovered(least, period, rows=None):
    """The share of the drift's part of the KL that a period brings back: 0 for never, 1 for every token."""
    rows = rows or table()
    kl = {each: rows[least, each]["kl"] for each in (0, period, 1)}
    return recovered(kl[1], kl[0], kl[period])


def spread(values):
    """Standard error of the mean of `values`, one per text."""
    return stdev(values) / len(values) ** 0.5


def gap_error(least, period, rows=None):
    """Standard error of `gap_recovered`: of the differences text by text, over the mean gap."""
    rows = rows or table()
    never, now = (rows[least, each]["kl_texts"] for each in (0, period))
    return spread([a - b for a, b in zip(never, now, strict=True)]) / (rows[least, 0]["kl"] - rows[least, 1]["kl"])


def value_errors(least, period):
    """(position of the first step, relative error of the cache's values after every step, by layer from 1)."""
    (row,) = measured(RUN, what="drift", least=least, period=period)
    return row["first"], [[float(word) for word in layer.split()] for layer in row["value_error"]]


def off_before_passes(least, period):
    """How far the values are from the dense ones just before a pass, mean over passes, by layer from 1: two lists.

    The norm of the difference over that of the values, of all rows of the cache, and of those alone that no pass has
    mended yet (as if all values were equally long). Period 0, never: after the last letter. Period 1 leaves no row.
    """
    first, layers = value_errors(least, period)
    steps = len(layers[0])
    # A step's error was measured once the pass that ends it was done, so the step before says what a pass finds.
    before = range(period - 1, steps, period) if period else (steps,)
    over_all = [[errors[step - 1] for step in before] for errors in layers]
    unmended = [[error * ((first + step) / (step % period if period else step)) ** 0.5
                 for error, step in zip(errors, before, strict=True)] for errors in over_all]  # fmt: skip
    return [fmean(errors) for errors in over_all], [fmean(errors) for errors in unmended]


def judged_drift(period):
    """KL of SmolLM2's sparse decoding to dense, stretch by stretch: [passages][stretches]. Period 0: never."""
    return [row["kl"] for row in measured(JUDGED, what="drift", period=period)]


def _pairs(period, part=slice(None)):
    """(KL if never rectified, KL) of every stretch of `part` of the text, over all passages."""
    both = zip(judged_drift(0), judged_drift(period), strict=True)
    return [pair for never, now in both for pair in zip(never[part], now[part], strict=True)]


def won_back(period):
    """The share of SmolLM2's whole KL that a period brings back: dense decoding has none."""
    never, now = zip(*_pairs(period), strict=True)
    return 1 - fmean(now) / fmean(never)


def won_error(period):
    """Standard error of `won_back`, of the differences stretch by stretch."""
    pairs = _pairs(period)
    return spread([never - now for never, now in pairs]) / fmean(never for never, _ in pairs)


def _quarters(period):
    """Differences to never rectifying, stretch by stretch, in the first and in the last quarter of the text."""
    quarter = len(judged_drift(0)[0]) // 4
    for part in (slice(None, quarter), slice(-quarter, None)):
        yield [never - now for never, now in _pairs(period, part)]


def drift_growth(period=8):
    """What rectifying brings back in the last quarter of the text, over what it does in the first."""
    first, last = _quarters(period)
    return fmean(last) / fmean(first)


def drift_growth_error(period=8):
    """Standard error of `drift_growth`, of its stretches."""
    return drift_growth(period) * hypot(*(spread(each) / fmean(each) for each in _quarters(period)))


def rectified_error():
    """The largest difference of a rectified cache to the dense one, in any layer, key or value: a random model."""
    torch.manual_seed(0)
    sizes = Configuration(20, width=48, layers=4, heads=6, key_value_heads=2, head_dim=8, feed_forward=64, context=64)
    model, tokens = LanguageModel(sizes).double(), torch.randint(20, (1, 64))
    dense = states_of(model, 1, RewindableCache)
    decoder = SparseDecoder(model, states_of(model, 1, RectifiedCache, choice=Choice(4, 0.1, 2)), period=8)
    decoder.read(tokens[:, :16])
    for token in tokens[:, 16:].split(1, 1):
        decoder.step(token)
    with torch.no_grad():
        model(tokens, dense)
    pairs = zip(decoder.states, dense, strict=True)
    return max((getattr(a, name) - getattr(b, name)).abs().max().item() for a, b in pairs for name in ("key", "value"))


def _worst_violation(cases=200):
    """The most by which any key's score passes its block's bound, over random blocks: below zero if none does."""
    torch.manual_seed(0)
    query, key = torch.randn(cases, 1, 1, 64, dtype=torch.float64), torch.randn(cases, 1, 16, 64, dtype=torch.float64)
    bound = bound_scores(query, *block_bounds(key, 16), scale=1.0)[..., 0]
    return max(0.0, ((query @ key.mT).amax(-1)[..., 0] - bound).max().item())


def _bytes_ratio():
    return 1 / costs_rectified.share(costs_rectified.BLOCK_SIZE, costs_rectified.ACTIVE, costs_rectified.PERIOD).total


def _rectification_share():
    share = costs_rectified.share(costs_rectified.BLOCK_SIZE, costs_rectified.ACTIVE, costs_rectified.PERIOD)
    return share.rectification / share.total


def _timed():
    """The recorded step of a token: (name, tokens) -> row."""
    return {(row["name"], row["tokens"]): row for row in measured("rectified/cpu", what="time of a token")}


def _speed():
    """Time of a dense step over ReSA's, its share of a rectification included, after the longest recorded text."""
    rows = _timed()
    longest = max(tokens for _, tokens in rows)
    ours = rows["ReSA", longest]
    return rows["dense", longest]["median"] / (ours["median"] + ours["amortised"])


def _rectification_conditions():
    rows = [row for (name, _), row in sorted(_timed().items()) if name == "ReSA"]
    least, most = (100 * row["amortised"] / (row["median"] + row["amortised"]) for row in (rows[0], rows[-1]))
    return (
        "equation 6; a pass over many tokens also computes more per byte, which bytes leave out: by time on a CPU it "
        f"is {least:.0f} % at {rows[0]['tokens']:,} tokens and {most:.0f} % at {rows[-1]['tokens']:,}, recorded by "
        "make bench; judged by the bytes, as those times are a CPU's and the published one is a GPU's"
    )


def _speed_conditions():
    longest, budget = max(tokens for _, tokens in _timed()), next(iter(_timed().values()))["budget"]
    return (
        f"formula: the paper's equation 6 with its own settings; measured: one layer on a CPU, {longest:,} tokens, "
        f"{budget:.0%} of the bytes, recorded by make bench"
    )


PAPER = "Sun et al. 2025 (ReSA)"

CLAIMS = [
    Claim(
        topic="rectified",
        paper=PAPER,
        where="abstract: a dense pass refreshes the cache; that it is exact is our reading",
        statement="Right after a rectification the cache is the one that dense decoding would hold.",
        measured=Figure(rectified_error, "largest difference"),
        rule=exact(),
        conditions=(
            "random model of 4 layers, 48 sparse steps, every 8 rectified, keys and values of all layers, float64"
        ),
    ),
    Claim(
        topic="rectified",
        paper=PAPER,
        where="equation 4",
        statement="The score of a block, from its least and largest numbers alone, bounds that of each of its keys.",
        measured=Figure(_worst_violation, "largest excess"),
        rule=exact(),
        conditions="one query for each of 200 random blocks of 16 keys of 64, float64",
    ),
    Claim(
        topic="rectified",
        paper=PAPER,
        where="abstract: up to, end to end, at 256K tokens",
        statement="Decoding is faster than dense decoding.",
        published=2.42,
        unit="times faster",
        formula=Figure(_bytes_ratio, "times fewer bytes of cache"),
        measured=Figure(_speed, "times faster, attention alone"),
        rule=upper_bound(),
        conditions=_speed_conditions,
    ),
    Claim(
        topic="rectified",
        paper=PAPER,
        where="section 3.5, at 256K tokens",
        statement="Rectification takes about a third of the time of attention.",
        published=32.7,
        unit="% of attention's time",
        formula=Figure(lambda: 100 * _rectification_share(), "% of the bytes read"),
        rule=within(2),
        conditions=_rectification_conditions,
    ),
    Claim(
        topic="rectified",
        paper=PAPER,
        where="introduction: errors accumulate in the cache",
        statement="Without rectification the cache of a longer text is further from the dense one.",
        measured=Figure(drift_growth, "times what rectifying wins in the first quarter of the text"),
        rule=beyond(lambda: 2 * drift_growth_error(), at_least(1.0), neutral=1.0),
        conditions=lambda: (
            "SmolLM2's KL to dense decoding, never rectified less rectified every 8 tokens, last quarter of 512 tokens "
            f"that it wrote over the first; standard error {drift_growth_error():.1f} over stretches of 32 tokens of "
            "two texts, recorded by run_smollm2.py"
        ),
    ),
    Claim(
        topic="rectified",
        paper=PAPER,
        where="from the averages of table 1, R1-Distill-Qwen 7B",
        statement="Rectified every 32 tokens, decoding wins back most of what sparse decoding lost.",
        published=round(100 * recovered(*TABLE_1["7B"])),
        unit="% of the points lost",
        measured=Figure(lambda: 100 * won_back(32), "% of the KL to dense decoding"),
        rule=beyond(lambda: 200 * won_error(32), at_least(50.0)),
        conditions=lambda: (
            f"SmolLM2, 512 tokens that it wrote, standard error {100 * won_error(32):.0f} % over stretches of 32 "
            "tokens of two texts, recorded by run_smollm2.py; the KL counts every token's own sparse read, the paper's "
            "points five tests of mathematics"
        ),
    ),
]
