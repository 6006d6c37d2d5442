"""What is published of CLSA and DSA, and how this library measures it."""

from statistics import fmean

import torch

from effattn_core.indexing import costs as prices
from effattn_core.indexing.model import distillation
from effattn_core.ledger import Claim
from effattn_core.measurements import measured

RUN = "indexing/training-cpu"
PAPER = "You Only Index Once (arXiv 2606.06467)"


def _text(stage, top_k):
    return [row for row in measured(RUN)
            if row["what"] == "text" and row["stage"] == stage and row["top_k"] == top_k]  # fmt: skip


def _gap(top_k=16):
    dense = fmean(row["loss"]["dense"] for row in _text("joint", None))
    return fmean(row["loss"]["trained shared"] for row in _text("joint", top_k)) - dense


def _covered(top_k=16):
    return fmean(fmean(row["coverage"]["trained shared"]) for row in _text("joint", top_k))


def _bytes_ratio():
    sizes = (131072, 16, 4, 128)
    return prices.step(*sizes, top_k=None).total / prices.step(*sizes).total


def _agreeing():
    rows = [row["coverage"] for row in measured(RUN) if row["what"] == "agreement" and row["agreement"] == 1.0]
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
        where="decoding at 128K, abstract",
        statement="A decoded token costs 7.6 times less time than a Transformer's.",
        published=7.6,
        unit="× fewer bytes",
        measure=_bytes_ratio,
        agrees=lambda ours: ours > 7.6,
        conditions=(
            "bytes of the 16 cross-layers by formula, published sizes, index keys in eight bits: an upper bound on "
            "what reading less can save, not a time"
        ),
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="loss, by summaries that we read",
        statement="Reading a sixteenth of the tokens costs less than 0.006 nats a token.",
        published=0.006,
        unit="nats a letter",
        measure=_gap,
        agrees=lambda ours: ours < 0.006,
        conditions=(
            "a YOCO of four cross-layers on letters of Shakespeare, 16 of 256 letters, after the joint stage, recorded "
            "by make runs; the paper's has 4B parameters"
        ),
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="coverage, by summaries that we read",
        statement="The chosen sixteenth covers about 0.8 of dense attention's mass.",
        published=0.8,
        unit="of the mass",
        measure=_covered,
        agrees=lambda ours: 0.65 < ours < 0.95,
        conditions="the same model",
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="training loss, by summaries that we read",
        statement="One divergence to the mean of all layers teaches what one to each layer would.",
        published=None,
        unit="largest difference of gradients",
        measure=_gradients,
        agrees=lambda ours: ours < 1e-12,
        conditions="six random layers, float64; the identity is ours to check, and exact",
    ),
    Claim(
        topic="indexing",
        paper=PAPER,
        where="abstract: one index for all cross-decoder layers",
        statement="Sharing an index costs next to nothing while layers agree.",
        published=None,
        unit="of the mass lost",
        measure=_agreeing,
        agrees=lambda ours: ours < 0.02,
        conditions="the chapter's miniature at full agreement, three seeds, recorded by make runs",
    ),
]
