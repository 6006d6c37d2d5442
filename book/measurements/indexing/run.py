"""What one index for all layers covers: layers that agree as much as one likes, and a YOCO trained on Shakespeare.

python book/measurements/indexing/run.py      writes training-cpu.json or training-gpu.json beside this file

The miniature follows a table whose program we do not have (see `agreeing_layers`). The YOCO is trained dense, then its
indexer alone, then both; indexers a layer (DSA) are trained beside it. Parts that are done are kept in .cache/runs, and
training goes on from its checkpoints there. One thread, about ten minutes.
"""

import math
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.indexing import choose_rows, hide_future, mask_of
from effattn_core.indexing.model import IndexedYOCO, IndexerAlone, Jointly
from effattn_core.indexing.neighbours import (
    LayerIndexers,
    agreeing_layers,
    choices,
    coverage,
    observed,
    trained_indexer,
    unmasked_scores,
)
from effattn_core.measurements import EVERY, RUNS, curve, finished, once, rounded
from effattn_core.model import Configuration
from kernels import bench, runtime

SEEDS, TEXT_SEEDS = (0, 1, 2), (0, 1, 2)
AGREEMENTS, TOP_K = (0.0, 0.5, 0.65, 0.8, 1.0), 32
CONTEXT, BATCH, WINDOWS = 256, 2, 8
STEPS = {"dense": 300, "indexer": 100, "layers": 80, "joint": 60}
KEPT = (4, 8, 16, 32, 64)


def agreement_rows(seed, agreement, steps=400):
    """Coverage of each choice, the mean over layers: one row of the table."""
    found = agreeing_layers(agreement, seed=seed)
    indexer, loss = trained_indexer(found, seed=seed, steps=steps)
    with torch.no_grad():
        scores = unmasked_scores(indexer, found.hidden)
    rows = choices(found.weights, scores, TOP_K, torch.Generator().manual_seed(seed))
    caught = {name: coverage(found.weights, row).mean().item() for name, row in rows.items()}
    return [{"what": "agreement", "agreement": agreement, "seed": seed, "top_k": TOP_K, "kl": loss, "coverage": caught}]


def sizes(vocabulary):
    """Four layers that share a cache, above two that see sixteen letters."""
    return Configuration(
        vocabulary, width=64, layers=6, cross_layers=4, heads=4, key_value_heads=2, head_dim=16, feed_forward=128,
        window=16, context=CONTEXT,
    )  # fmt: skip


@torch.no_grad()
def reading_loss(model, inputs, targets, seen):
    """Held-out loss, nats per letter, of a cross-decoder that reads what `seen` allows."""
    hidden, states = model.read(model.embedding(inputs), None)
    hidden, _, _ = model.watched(hidden, states[-1], seen)
    return functional.cross_entropy(model.head(model.norm(hidden)).flatten(0, 1), targets.flatten()).item()


@torch.no_grad()
def text_rows(model, layer_scores, inputs, targets, stage, seed):
    """Coverage of each choice, and the loss where all layers read one list, by tokens read."""
    weights, before = observed(model, inputs)
    scores = model.indexer(before[0])
    dice, seen = torch.Generator().manual_seed(seed), scores > -math.inf
    shared = {"seed": seed, "stage": stage}
    yield {"what": "text", **shared, "top_k": None, "loss": {"dense": reading_loss(model, inputs, targets, seen)}}
    newest = hide_future(torch.arange(CONTEXT, dtype=scores.dtype).expand_as(scores))
    for top_k in KEPT:
        rows = choices(weights, scores, top_k, dice) | {"newest": choose_rows(newest, top_k)}
        if layer_scores is not None:
            rows["trained per layer"] = torch.stack([choose_rows(each, top_k, 0) for each in layer_scores(before)])
        caught = {name: rounded(coverage(weights, row)) for name, row in rows.items()}
        lists = {name: row for name, row in rows.items() if row.ndim == 3}
        lists["trained shared"] = choose_rows(scores, top_k)  # as decoding reads: the newest token among them
        losses = {name: reading_loss(model, inputs, targets, mask_of(row, CONTEXT)) for name, row in lists.items()}
        # How much of one layer's own choice is another's, of queries that must choose.
        each = mask_of(rows["per layer"].flatten(0, 1), CONTEXT).view_as(weights)[:, :, top_k:].double()
        same = [rounded([(a * b).sum().item() / a.sum().item() for b in each]) for a in each]
        yield {"what": "text", **shared, "top_k": top_k, "coverage": caught, "loss": losses, "same": same}


def yoco_rows(seed, training, held_out, letters, steps, folder):
    """All stages of one YOCO."""
    torch.manual_seed(seed)
    model = IndexedYOCO(sizes(letters)).to(runtime.device())
    tag = "-".join(str(count) for count in steps.values())
    starts = torch.linspace(0, len(held_out) - CONTEXT - 1, WINDOWS).long()
    texts = torch.stack([held_out[start : start + CONTEXT + 1] for start in starts]).to(runtime.device())
    inputs, targets, losses = texts[:, :-1], texts[:, 1:], {}

    def stage(name, learner, rate):
        batches = Batches(training, BATCH, CONTEXT, seed)
        path = folder / f"indexing-{name}-{seed}-{tag}.pt"
        losses[name] = curve(finished(learner, batches, path, steps=steps[name], learning_rate=rate))

    stage("dense", model, 6e-3)
    stage("indexer", IndexerAlone(model), 6e-3)
    each = LayerIndexers(model)
    stage("layers", each, 6e-3)
    rows = list(text_rows(model.eval(), each.scores, inputs, targets, "indexer alone", seed))
    model.top_k = 16
    stage("joint", Jointly(model.train()), 1e-3)
    model.top_k = None
    rows += text_rows(model.eval(), None, inputs, targets, "joint", seed)
    parameters = sum(weight.numel() for weight in model.indexer.parameters())
    return [{"what": "model", "seed": seed, "parameters": model.parameter_count, "indexer": parameters, "steps": steps,
             "every": EVERY, "losses": losses, "top_k": 16}, *rows]  # fmt: skip


def main(seeds=SEEDS, text_seeds=TEXT_SEEDS, agreements=AGREEMENTS, steps=STEPS, indexer_steps=400, folder=RUNS,
         target=None):  # fmt: skip
    reproducible(0, threads=1)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        for agreement in agreements:
            name = f"agreement-{seed}-{agreement}-{indexer_steps}"
            rows += once(folder / f"indexing-{name}.pt", partial(agreement_rows, seed, agreement, indexer_steps))
    for seed in text_seeds:
        name = f"text-{seed}-" + "-".join(str(count) for count in steps.values())
        make = partial(yoco_rows, seed, training, held_out, len(letters), steps, folder)
        rows += once(folder / f"indexing-{name}.pt", make)
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
