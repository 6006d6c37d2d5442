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
        topic="retention",
        paper="Sun et al. 2023",
        where="section 2, equations of the three forms, as we recall the paper",
        statement="The parallel, recurrent and chunkwise forms compute the same.",
        published=None,
        unit="largest difference",
        measure=_largest_difference,
        agrees=lambda ours: ours < 1e-12,
        conditions="without the released code's normalisers, four heads, 200 tokens, chunks of 48, float64",
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: O(1) inference",
        statement="A decoded token costs the same however long the text is.",
        published=1.0,
        unit="× from 1K to 64K tokens",
        measure=_decode_growth,
        agrees=lambda ours: ours <= 1.2,
        conditions="one layer of 8 heads of 64 on a CPU, state carried, recorded by make bench",
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="figure 1",
        statement="At 6.7B parameters and 8K tokens inference needs 3.4 times less memory than a Transformer.",
        published=3.4,
        unit="× less memory",
        measure=_memory_ratio,
        agrees=lambda ours: 2 < ours < 5,
        conditions=(
            "bytes by formula for 8 texts at once, states in float32; we have not read which batch the figure used"
        ),
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: scaling comparable with Transformers",
        statement="A RetNet models language about as well as a Transformer of its size.",
        published=None,
        unit="× the Transformer's held-out loss",
        measure=_loss_ratio,
        agrees=lambda ours: ours < 1.05,
        conditions=(
            "the small models of the chapter on letters of Shakespeare, three seeds, recorded by make runs; the "
            "paper's smallest, as we recall, has 1.3 billion parameters"
        ),
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: training parallelism at linear cost",
        statement="Reading a prompt of 128K tokens takes fewer operations than with attention.",
        published=None,
        unit="× fewer operations",
        measure=_prefill_ratio,
        agrees=lambda ours: ours > 1,
        conditions="by formula, sizes of Llama 3 8B with every attention replaced, chunks of 128",
    ),
]
