"""What the paper on rectified sparse attention says, and how this library measures it."""

from statistics import stdev

import torch

from effattn_core.ledger import Claim
from effattn_core.measurements import measured
from effattn_core.model import Configuration, LanguageModel
from effattn_core.rectified import Choice, block_bounds, bound_scores
from effattn_core.rectified import costs as costs_rectified
from effattn_core.rectified.cache import RectifiedCache, RewindableCache, SparseDecoder, states_of

RUN = "rectified/training-cpu"

# Averages of the paper's table 1, R1-Distill-Qwen: dense, sparse, ReSA.
TABLE_1 = {"1.5B": (46.82, 43.50, 45.56), "7B": (60.72, 57.72, 60.52)}


def recovered(dense, sparse, rectified):
    """The share of what sparse decoding lost that rectification brings back."""
    return (rectified - sparse) / (dense - sparse)


def table():
    """(least, period) -> the row of the recorded run."""
    return {(row["least"], row["period"]): row for row in measured(RUN) if row["what"] == "table"}


def gap_recovered(least, period, rows=None):
    """The share of the drift's part of the KL that a period brings back: 0 for never, 1 for every token."""
    rows = rows or table()
    kl = {each: rows[least, each]["kl"] for each in (0, period, 1)}
    return recovered(kl[1], kl[0], kl[period])


def spread(values):
    """Standard error of the mean of `values`, one a text."""
    return stdev(values) / len(values) ** 0.5


def gap_error(least, period, rows=None):
    """Standard error of `gap_recovered`: of the differences text by text, over the mean gap."""
    rows = rows or table()
    never, now = (rows[least, each]["kl_texts"] for each in (0, period))
    return spread([a - b for a, b in zip(never, now, strict=True)]) / (rows[least, 0]["kl"] - rows[least, 1]["kl"])


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


def _drift_growth():
    """Error of the last layer's values at the end of the text, over that after a quarter of the sparse steps."""
    row = next(row for row in measured(RUN) if row["what"] == "drift" and row["period"] == 0)
    errors = [float(word) for word in row["value_error"][-1].split()]
    return errors[-1] / errors[len(errors) // 4 - 1]


CLAIMS = [
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="the rectification; that it is exact is our reading",
        statement="Right after a rectification the cache is the one that dense decoding would hold.",
        published=None,
        unit="largest difference",
        measure=rectified_error,
        agrees=lambda ours: ours < 1e-12,
        conditions=(
            "random model of 4 layers, 48 sparse steps, every 8 rectified, keys and values of all layers, float64"
        ),
    ),
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="equation 4",
        statement="The score of a block, from its least and largest numbers alone, bounds that of each of its keys.",
        published=None,
        unit="largest excess",
        measure=_worst_violation,
        agrees=lambda ours: ours <= 1e-12,
        conditions="200 random blocks of 16 keys of 64, float64",
    ),
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="abstract: up to 2.42 times end-to-end at 256K tokens",
        statement="Decoding is faster than dense decoding.",
        published=2.42,
        unit="× fewer bytes (published: times faster)",
        measure=_bytes_ratio,
        agrees=lambda ours: ours >= 2.42,
        conditions=(
            "the paper's equation 6 with its own settings: what the bytes allow at most, not a time measured here"
        ),
    ),
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="section 3.5: 32.7 % of attention's time at 256K tokens",
        statement="Rectification takes about a third of the time of attention.",
        published=0.327,
        unit="of the bytes read (published: of the time)",
        measure=_rectification_share,
        agrees=lambda ours: 0.2 < ours < 0.5,
        conditions=(
            "share of bytes by equation 6; a pass over many tokens also computes more for each byte, which bytes "
            "leave out"
        ),
    ),
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="introduction: errors accumulate in the cache",
        statement="Without rectification the cache of a longer text is further from the dense one.",
        published=None,
        unit="× the error after a quarter of the text",
        measure=_drift_growth,
        agrees=lambda ours: ours > 1,
        conditions="values of the last layer, the small model of the chapter, recorded by make runs",
    ),
    Claim(
        topic="rectified",
        paper="Sun et al. 2025 (ReSA)",
        where="table 1, average of R1-Distill-Qwen 7B",
        statement="Rectified every 32 tokens, decoding wins back most of what sparse decoding lost.",
        published=round(recovered(*TABLE_1["7B"]), 2),
        unit="of the gap recovered",
        measure=lambda: gap_recovered(2, 32),
        agrees=lambda ours: ours > 0.5,
        conditions=(
            "ours: the drift's part of the KL to dense, small model of the chapter, texts of 384 letters, recorded by "
            "make runs; the paper's: points of five tests of mathematics with answers of thousands of tokens"
        ),
    ),
]
