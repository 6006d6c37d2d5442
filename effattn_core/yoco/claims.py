"""What the paper on YOCO says, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core.ledger import Claim
from effattn_core.measurements import measured
from effattn_core.model import build, configuration
from effattn_core.yoco import costs as prices

MILLION = 1 << 20


def _early_exit_difference():
    torch.manual_seed(0)
    tokens, worst = torch.randint(80, (1, 100)), 0.0
    for size in ("small-yoco", "small-yoco-gated"):
        model = build(configuration(size, 80)).double()
        with torch.no_grad():
            whole, early = model(tokens)[0][:, -1:], model.prefill(tokens)[0]
        worst = max(worst, ((early - whole).abs().max() / whole.abs().max()).item())
    return worst


def _memory_ratio():
    return prices.memory(prices.YOCO_3B, MILLION, "grouped") / prices.memory(prices.YOCO_3B, MILLION, "YOCO, gated")


def _cache_ratio():
    model = prices.SIZES["65B"]
    return prices.kept(model, MILLION, "grouped").total / prices.kept(model, MILLION, "YOCO, gated").total


def _prefill_ratio(context):
    grouped, gated = (prices.prefill_flops(prices.YOCO_3B, context, name) for name in ("grouped", "YOCO, gated"))
    return grouped / gated


def _found(tokens=256):
    rows = [row for row in measured("yoco/training-cpu") if row["what"] == "needle" and row["tokens"] == tokens]
    return min(fmean(row["found"] for row in rows if row["name"] == name) for name in ("YOCO, window", "YOCO, gated"))


def _loss_ratio():
    def mean(rows, name):
        return fmean(
            row["loss"] for row in rows if row["what"] == "held out" and row["start"] == 0 and row["name"] == name
        )

    ours = min(mean(measured("yoco/training-cpu"), name) for name in ("YOCO, window", "YOCO, gated"))
    return ours / mean(measured("retention/training-cpu"), "Transformer")


def _prefill_time_ratio(tokens=16384):
    rows = {
        row["name"]: row["median"]
        for row in measured("yoco/cpu")
        if row["what"] == "prefill" and row["tokens"] == tokens
    }
    return rows["Transformer"] / min(rows["YOCO, window"], rows["YOCO, gated"])


CLAIMS = [
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="abstract: prefill exits early without changing the final output",
        statement="A prompt that leaves before the cross-decoder gives the same prediction.",
        published=None,
        unit="largest relative difference",
        measure=_early_exit_difference,
        agrees=lambda ours: ours < 1e-12,
        conditions="both small models of the chapter, 100 tokens, float64",
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="inference figures, as we recall the paper",
        statement="A 3B model serves 1M tokens in 9.4 times less memory than a Transformer with grouped heads.",
        published=9.4,
        unit="× less memory",
        measure=_memory_ratio,
        agrees=lambda ours: 0.75 < ours / 9.4 < 1.33,
        conditions="bytes by formula from the released sizes; the paper's 12.4 GB hold activations too, ours do not",
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="inference figures, as we recall the paper",
        statement="At 65B parameters the cache is 80 times smaller.",
        published=80,
        unit="× smaller",
        measure=_cache_ratio,
        agrees=lambda ours: 0.9 < ours / 80 < 1.1,
        conditions=(
            "bytes by formula at 1M tokens for LLaMA's 80 layers and eight key-value heads; the states are what "
            "is missing"
        ),
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="inference figures, as we recall the paper",
        statement="A prompt of 1M tokens is read 71.8 times faster.",
        published=71.8,
        unit="× fewer operations",
        measure=lambda: _prefill_ratio(MILLION),
        agrees=lambda ours: 0.5 < ours / 71.8 < 2,
        conditions=(
            "operations by formula; the paper measured time, in which attention runs below the peak of matrix products"
        ),
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="inference figures, as we recall the paper",
        statement="A prompt of 32K tokens is read 2.87 times faster.",
        published=2.87,
        unit="× fewer operations",
        measure=lambda: _prefill_ratio(32768),
        agrees=lambda ours: 0.5 < ours / 2.87 < 2,
        conditions="operations by formula",
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="abstract: prefill latency falls by orders of magnitude",
        statement="The time to read a prompt falls, and more so the longer it is.",
        published=None,
        unit="× as fast at 16K tokens",
        measure=_prefill_time_ratio,
        agrees=lambda ours: ours > 1.5,
        conditions="small models of equal parameters on a CPU, recorded by make bench",
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="abstract: near-perfect needle retrieval at 1M tokens",
        statement="What was hidden anywhere in the text is found again.",
        published=None,
        unit="of facts found",
        measure=_found,
        agrees=lambda ours: ours > 0.9,
        conditions=(
            "the worse of the chapter's two YOCO models, 256 tokens as in training, three seeds, recorded by make runs"
        ),
    ),
    Claim(
        topic="yoco",
        paper="Sun et al. 2024",
        where="abstract: favourable performance compared to Transformer",
        statement="A YOCO models language about as well as a Transformer of its size.",
        published=None,
        unit="× the Transformer's held-out loss",
        measure=_loss_ratio,
        agrees=lambda ours: ours < 1.05,
        conditions=(
            "the better of two small YOCOs on letters of Shakespeare, three seeds, recorded by make runs; the paper's "
            "smallest has 160 million parameters, as we recall it"
        ),
    ),
]
