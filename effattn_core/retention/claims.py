"""What the papers on retention say, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core import costs
from effattn_core.ledger import Claim
from effattn_core.measurements import measured
from effattn_core.retention import chunkwise, decay_schedule, parallel, recurrent
from effattn_core.retention import costs as costs_retention


def _largest_difference():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, 200, 16, dtype=torch.float64)
    decay = decay_schedule(4).double()
    truth = parallel(query, key, value, decay, scale=0.25)
    others = (
        recurrent(query, key, value, decay, scale=0.25),
        chunkwise(query, key, value, decay, scale=0.25, chunk_size=48),
    )
    return max((a - b).abs().max().item() for other in others for a, b in zip(other, truth, strict=True))


def _decode_growth():
    times = {
        row["tokens"]: row["median"]
        for row in measured("retention/cpu")
        if row["what"] == "decode one token" and "state" in row["name"]
    }
    return times[65536] / times[1024]


def _loss_ratio():
    losses = {name: [] for name in ("RetNet", "Transformer")}
    for row in measured("retention/training-cpu"):
        if row["what"] == "held out" and row["start"] == 0:
            losses[row["name"]].append(row["loss"])
    return fmean(losses["RetNet"]) / fmean(losses["Transformer"])


def _memory_ratio(batch=8, context=8192):
    """A Transformer of 6.7B without grouped heads against a RetNet of its width, weights in two bytes."""
    weights = 2 * 6.7e9
    cache = batch * 2 * 32 * 4096 * context * 2
    sizes = (costs_retention.HEADS, costs_retention.KEY_DIM, costs_retention.VALUE_DIM)
    return (weights + cache) / (weights + costs_retention.state_bytes(32, *sizes, batch=batch))


def _prefill_ratio():
    return costs.bill()[0].value / costs_retention.bill()[0].value


CLAIMS = [
    Claim(
        "retention", "Sun et al. 2023", "section 2, equations of the three forms, as we recall the paper",
        "The parallel, recurrent and chunkwise forms compute the same.",
        None, "largest difference", _largest_difference, lambda ours: ours < 1e-12,
        "without the released code's normalisers, four heads, 200 tokens, chunks of 48, float64",
    ),
    Claim(
        "retention", "Sun et al. 2023", "abstract: O(1) inference",
        "A decoded token costs the same however long the text is.",
        1.0, "× from 1K to 64K tokens", _decode_growth, lambda ours: ours <= 1.2,
        "one layer of 8 heads of 64 on a CPU, state carried, recorded by make bench",
    ),
    Claim(
        "retention", "Sun et al. 2023", "figure 1",
        "At 6.7B parameters and 8K tokens inference needs 3.4 times less memory than a Transformer.",
        3.4, "× less memory", _memory_ratio, lambda ours: 2 < ours < 5,
        "bytes by formula for 8 texts at once, states in float32; we have not read which batch the figure used",
    ),
    Claim(
        "retention", "Sun et al. 2023", "abstract: scaling comparable with Transformers",
        "A RetNet models language about as well as a Transformer of its size.",
        None, "× the Transformer's held-out loss", _loss_ratio, lambda ours: ours < 1.05,
        "the small models of the chapter on letters of Shakespeare, three seeds, recorded by make runs; the paper's "
        "smallest, as we recall, has 1.3 billion parameters",
    ),
    Claim(
        "retention", "Sun et al. 2023", "abstract: training parallelism at linear cost",
        "Reading a prompt of 128K tokens takes fewer operations than with attention.",
        None, "× fewer operations", _prefill_ratio, lambda ours: ours > 1,
        "by formula, sizes of Llama 3 8B with every attention replaced, chunks of 128",
    ),
]  # fmt: skip
