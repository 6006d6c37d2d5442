"""What the paper on YOCO says, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, at_least, at_most, exact, within
from effattn_core.model import build, configuration
from effattn_core.recordings import measured
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
    rows = measured("yoco/training-cpu", what="needle", tokens=tokens)
    return min(fmean(row["found"] for row in rows if row["name"] == name) for name in ("YOCO, window", "YOCO, gated"))


def _loss_ratio():
    def mean(recording, name):
        return fmean(row["loss"] for row in measured(recording, what="held out", start=0, name=name))

    ours = min(mean("yoco/training-cpu", name) for name in ("YOCO, window", "YOCO, gated"))
    return ours / mean("retention/training-cpu", "Transformer")


def _prefill_time_ratio(tokens=16384):
    rows = {row["name"]: row["median"] for row in measured("yoco/cpu", what="prefill", tokens=tokens)}
    return rows["Transformer"] / min(rows["YOCO, window"], rows["YOCO, gated"])


PAPER, PROFILE = "Sun et al. 2024", "profiling figure:"

CLAIMS = [
    Claim(
        topic="yoco",
        paper=PAPER,
        where="abstract: exits early without changing the final output",
        statement="A prompt that leaves before the cross-decoder gives the same prediction.",
        measured=Figure(_early_exit_difference, "largest relative difference"),
        rule=exact(),
        conditions="both small models of the chapter, 100 tokens, float64",
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where=f"{PROFILE} GPU memory",
        read=False,
        statement="A 3B model serves 1M tokens in less memory than a Transformer with grouped heads.",
        published=9.4,
        unit="times less GPU memory",
        formula=Figure(_memory_ratio, "times fewer bytes of weights and cache"),
        rule=within(2),
        conditions="from the released sizes; the paper's memory holds activations too, ours does not",
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where=f"{PROFILE} cache per token",
        read=False,
        statement="At 65B parameters the cache of a token is smaller than a Transformer's.",
        published=80,
        unit="times smaller",
        formula=Figure(_cache_ratio, "times fewer bytes of cache"),
        rule=within(2),
        conditions="1M tokens, LLaMA's 80 layers and eight key-value heads; what is missing from 80 are the states",
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where=f"{PROFILE} prefill latency",
        read=False,
        statement="A prompt of 1M tokens is read faster than by a Transformer.",
        published=71.8,
        unit="times faster",
        formula=Figure(lambda: _prefill_ratio(MILLION), "times fewer operations"),
        rule=within(2),
        conditions="from YOCO-3B's sizes; a time against operations: attention runs below the peak of matrix products",
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where=f"{PROFILE} prefill latency",
        read=False,
        statement="A prompt of 32K tokens is read faster than by a Transformer.",
        published=2.87,
        unit="times faster",
        formula=Figure(lambda: _prefill_ratio(32768), "times fewer operations"),
        rule=within(2),
        conditions="from YOCO-3B's sizes; a time against operations",
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where="abstract: prefill latency, by orders of magnitude",
        statement="The time to read a prompt falls, and more so the longer it is.",
        unit="faster",
        measured=Figure(_prefill_time_ratio, "times faster at 16K tokens"),
        rule=at_least(1.5),
        conditions=(
            "small models of equal parameters on a CPU, recorded by make bench; not at 32K, where the Transformer's "
            "time grows faster than its operations"
        ),
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where="abstract, and the release's README: one needle, YOCO-3B-1M",
        statement="What was hidden anywhere in the text is found again.",
        published=98,
        unit="% of needles found",
        measured=Figure(lambda: 100 * _found(), "% of facts found"),
        rule=within(2, whole=100),
        conditions=(
            "the worse of the chapter's two YOCO models, 256 tokens as in training, three seeds, recorded by make runs"
        ),
    ),
    Claim(
        topic="yoco",
        paper=PAPER,
        where="abstract: favourable performance compared to Transformer",
        statement="A YOCO models language about as well as a Transformer of its size.",
        measured=Figure(_loss_ratio, "times the Transformer's held-out loss"),
        rule=at_most(1.05),
        conditions="the better of two small YOCOs on letters of Shakespeare, three seeds, recorded by make runs",
    ),
]
