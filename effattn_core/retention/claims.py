"""What the papers on retention say, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core import bill
from effattn_core.ledger import Claim, Figure, at_most, exact, within
from effattn_core.recordings import measured
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
    rows = measured("retention/cpu", what="decode one token")
    times = {row["tokens"]: row["median"] for row in rows if "state" in row["name"]}
    return times[65536] / times[1024]


def _loss_ratio():
    losses = {name: [] for name in ("RetNet", "Transformer")}
    for row in measured("retention/training-cpu", what="held out", start=0):
        losses[row["name"]].append(row["loss"])
    return fmean(losses["RetNet"]) / fmean(losses["Transformer"])


def _memory_ratio(batch=8, context=8192):
    """A Transformer of 6.7B without grouped heads against a RetNet of its width, weights in two bytes."""
    weights = 2 * 6.7e9
    cache = batch * 2 * 32 * 4096 * context * 2
    sizes = (costs_retention.HEADS, costs_retention.KEY_DIM, costs_retention.VALUE_DIM)
    return (weights + cache) / (weights + costs_retention.state_bytes(32, *sizes, batch=batch))


def _prefill_of_twice_the_text(context=131072):
    """Operations of twice the text over those of the text, all layers."""
    short, long = (bill.lines("retention", each)["prefill"].value for each in (context, 2 * context))
    return long / short


CLAIMS = [
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: three computation paradigms",
        statement="The parallel, recurrent and chunkwise forms compute the same.",
        measured=Figure(_largest_difference, "largest difference"),
        rule=exact(),
        conditions="without the released code's normalisers, four heads, 200 tokens, chunks of 48, float64",
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: O(1) inference",
        statement="A decoded token costs the same however long the text is.",
        unit="O(1)",
        measured=Figure(_decode_growth, "times the time, 64K against 1K tokens"),
        rule=at_most(1.2),
        conditions="one layer of 8 heads of 64 on a CPU, state carried, recorded by make bench",
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="figure 1",
        statement="At 6.7B parameters and 8K tokens inference needs less memory than a Transformer.",
        published=3.4,
        unit="times less GPU memory",
        formula=Figure(_memory_ratio, "times fewer bytes of weights and cache"),
        rule=within(2),
        conditions="8 texts at once, states in float32; the figure does not say its batch",
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: favourable scaling results",
        statement="A RetNet models language about as well as a Transformer of its size.",
        measured=Figure(_loss_ratio, "times the Transformer's held-out loss"),
        rule=at_most(1.05),
        conditions=(
            "the small models of the chapter on letters of Shakespeare, three seeds, recorded by make runs; neither "
            "was tuned"
        ),
    ),
    Claim(
        topic="retention",
        paper="Sun et al. 2023",
        where="abstract: linear complexity",
        statement="Twice the text takes twice the operations to read, by chunks.",
        unit="linear",
        formula=Figure(_prefill_of_twice_the_text, "times the operations, 256K against 128K tokens"),
        rule=at_most(2.01),
        conditions="sizes of Llama 3 8B with every attention replaced, chunks of 128",
    ),
]
