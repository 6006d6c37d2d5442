"""What is published of CLSA and DSA, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core.indexing import costs as prices
from effattn_core.indexing.model import distillation
from effattn_core.ledger import Claim, Figure, against, at_most, exact, upper_bound, within
from effattn_core.recordings import measured

RUN, SMOLLM2 = "indexing/training-cpu", "indexing/smollm2-cpu"
PAPER = "Sun et al. 2026 (CLSA)"


def _text(stage, top_k):
    return measured(RUN, what="text", stage=stage, top_k=top_k)


def _gap(chooser="trained shared", top_k=16):
    """Nats per letter that reading only `top_k` letters adds to the held-out loss, by who chooses them."""
    dense = fmean(row["loss"]["dense"] for row in _text("joint", None))
    return fmean(row["loss"][chooser] for row in _text("joint", top_k)) - dense


def _smollm2(what, field, name, count=64):
    """Recorded of a list for the upper half of SmolLM2, the mean over passages and layers."""
    rows = measured(SMOLLM2, what=what, name=name, count=count)
    found = [row[field] for row in rows if row.get("layers", "upper") == "upper"]
    return fmean(fmean(each) if isinstance(each, list) else each for each in found)


def _covered(name="taught"):
    """In per cent, of the attention of SmolLM2's upper half."""
    return 100 * _smollm2("coverage", "covered", name)


def _smollm2_gap(name="taught"):
    """Nats per token that SmolLM2 loses whose upper half reads 64 tokens, by who chooses them."""
    return _smollm2("loss", "loss", name) - _smollm2("loss", "loss", "dense", None)


def _bytes_ratio(context=131072, **settings):
    """What a token reads of its cache: a Transformer of 32 layers over 16 windows of 512 and CLSA's 16 layers."""
    transformer, _, indexed = prices.published(context, **settings)
    return transformer / indexed


def _agreed():
    return [row["coverage"] for row in measured(RUN, what="agreement", agreement=1.0)]


def _agreeing():
    rows = _agreed()
    return fmean(row["per layer"] - row["trained shared"] for row in rows)


def _gradients():
    generator = torch.Generator().manual_seed(0)
    weights = (3 * torch.randn(6, 40, 40, dtype=torch.float64, generator=generator)).softmax(-1)
    scores = torch.randn(40, 40, dtype=torch.float64, generator=generator, requires_grad=True)
    each = torch.stack([distillation(layer, scores) for layer in weights]).mean()
    left, right = (torch.autograd.grad(loss, scores)[0] for loss in (each, distillation(weights.mean(0), scores)))
    return (left - right).abs().max().item()


CLAIMS = [
    Claim(
        topic="indexing",
        paper=PAPER,
        where="abstract: up to, at 128K",
        statement="A token is decoded faster than by a Transformer.",
        published=7.6,
        unit="times faster",
        formula=Figure(_bytes_ratio, "times fewer bytes of cache"),
        rule=upper_bound(),
        conditions=lambda: (
            "both by formula, weights left out: 32 layers of 4 key-value heads of 128 against 16 windows of 512, one "
            "index in eight bits and 16 layers of 2,048 rows (all these sizes UNVERIFIED: their place was not read); "
            f"with the gather's reading {_bytes_ratio(gathered=True):.1f}"
        ),
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="second-hand",
        read=False,
        statement="Reading a sixteenth of the tokens hardly raises the loss.",
        published=0.006,
        unit="nats per token, at most",
        measured=Figure(_gap, "nats per letter"),
        rule=against(lambda: _gap("newest"), at_most(0.006)),
        conditions=lambda: (
            "a YOCO of four cross-layers on letters of Shakespeare, 16 of up to 256 letters, after the joint stage, "
            f"recorded by make runs; the newest 16 letters, no index, cost {_gap('newest'):.3f}. SmolLM2 is no judge, "
            f"for the statement is of models trained on with their lists: it loses {_smollm2_gap():.2f} nats per token "
            f"by a taught list of 64 of up to 1,024 tokens, {_smollm2_gap('newest'):.2f} by the newest"
        ),
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="second-hand",
        read=False,
        statement="The chosen sixteenth covers most of dense attention's mass.",
        published=80,
        unit="% of the mass",
        measured=Figure(_covered, "% of the mass"),
        rule=against(lambda: _covered("newest"), within(2, whole=100)),
        conditions=lambda: (
            "the upper half of SmolLM2, three passages, 64 of 512 to 1,024 tokens (an eighth to a sixteenth) by one "
            f"taught indexer; the first token and the newest 63, no index, cover {_covered('newest'):.0f} %"
        ),
    ),
    Claim(
        topic="indexing",
        paper="Bai et al. 2026 (IndexCache)",
        where="abstract: distilled against the averaged attention of all layers served",
        statement="One divergence to the mean of all layers teaches what one to each layer would.",
        measured=Figure(_gradients, "largest difference of gradients"),
        rule=exact(),
        conditions="six random layers, float64; the identity is ours",
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="abstract: one index reused across layers is accurate",
        statement="Sharing an index costs next to nothing while layers agree.",
        measured=Figure(lambda: 100 * _agreeing(), "% of the mass less than a list per layer holds"),
        rule=at_most(2.0),
        conditions=lambda: (
            "the chapter's miniature at full agreement, 32 of 512 tokens, three seeds, recorded by make runs; a list "
            f"per layer itself leaves {100 * (1 - fmean(row['per layer'] for row in _agreed())):.1f} % of the mass"
        ),
    ),
]
