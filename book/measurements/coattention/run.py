"""What trains too long for a chapter: two branches over an image, facts after a look, pooled sentences, aspects.

python book/measurements/coattention/run.py      writes training-cpu.json or training-gpu.json beside this file

Each run is a part of its own, kept in .cache/runs/coattention, so that a stopped command goes on. A row per arm and
seed, by its field `what`:

"fusion"     arm, seed; digit, texture: accuracy on each kind of question.
"facts"      arm, noise, seed; accuracy.
"pooling"    arm, causal, seed; rank: mean reciprocal rank among 1000.
"aspects"    arm, shown, seed; error: root mean square; cosine: of the weights to the true preferences.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.coattention import aspects, canvases, facts, sentences
from effattn_core.measurements import RUNS, once
from kernels import bench, runtime

SEEDS, NOISES, SHOWN = (0, 1, 2), (0.0, 0.2, 0.4), (2, 4, 8, 13)
POOLED = (*((pool, True) for pool in sentences.POOLS), ("mean", False), ("sum", False))


def fusion(arm, seed, **settings):
    digit, texture = canvases.accuracy(canvases.trained(arm, seed, **settings), seed)
    return [dict(what="fusion", arm=arm, seed=seed, digit=round(digit, 4), texture=round(texture, 4))]


def of_facts(arm, noise, seed, **settings):
    found = facts.accuracy(facts.trained(arm, noise, seed, **settings), noise, seed)
    return [dict(what="facts", arm=arm, noise=noise, seed=seed, accuracy=round(found, 4))]


def pooling(pool, causal, seed, **settings):
    found = sentences.rank(sentences.trained(pool, causal, seed, **settings))
    return [dict(what="pooling", arm=pool, causal=causal, seed=seed, rank=round(found, 4))]


def of_aspects(arm, shown, seed, **settings):
    model, error = aspects.trained(arm, shown, seed, **settings)
    cosine = aspects.agreement(model, aspects.tasting(shown, seed))
    return [dict(what="aspects", arm=arm, shown=shown, seed=seed, error=round(error, 4), cosine=round(cosine, 4))]


def parts(seeds=SEEDS, noises=NOISES, shown=SHOWN, steps=None):
    """Pairs (name, function that makes rows). steps: of every training, for a dry run."""
    settings = {} if steps is None else dict(steps=steps)
    for seed in seeds:
        for arm in aspects.ARMS:
            for count in shown:
                yield f"aspects-{arm}-{count}-{seed}", partial(of_aspects, arm, count, seed, **settings)
        for arm in facts.ARMS:
            for noise in noises:
                yield f"facts-{arm}-{noise}-{seed}", partial(of_facts, arm, noise, seed, **settings)
        for arm in canvases.ARMS:
            yield f"fusion-{arm}-{seed}", partial(fusion, arm, seed, **settings)
        for pool, causal in POOLED:
            yield f"pooling-{pool}-{causal}-{seed}", partial(pooling, pool, causal, seed, **settings)


def main(folder=None, store=None, **settings):
    """Settings of `parts`, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0, threads=1)
    torch.set_default_dtype(torch.float32)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "coattention"
    made, rows = bench.provenance("make runs"), []
    for name, make in parts(**settings):
        rows += once(store / f"{name}-{runtime.mode}.pt", make)
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
