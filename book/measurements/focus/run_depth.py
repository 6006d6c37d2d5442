"""Can a candidate be heard? The recall of run.py again, where the frozen model looks facts up two layers later.

python book/measurements/focus/run_depth.py      writes depth-cpu.json or depth-gpu.json beside this file

Per seed the frozen model of run.py is taken, or trained if it is not there; its question is answered with one layer's
attention silent at a time, which shows where the look-up is. Then candidates are trained on the same model above two
empty layers. What is finished is kept in .cache/runs/focus: an interrupted command goes on after the last.
"""

from functools import partial
from pathlib import Path

import run

from effattn_core import reproducible
from effattn_core.focus import recall
from effattn_core.focus.depth import added_to, deepened, recalled_without
from effattn_core.focus.training import Lessons
from effattn_core.measurements import RUNS, curve, once
from effattn_core.train import train
from kernels import bench, runtime

BELOW, STEPS, BATCH = 2, 300, 32


def where_rows(model, seed, chunks=2):
    """Recall of the whole text with one layer's attention silent for the token that asks."""
    layers = [None, *range(len(model.blocks))]
    return [{"what": "where", "seed": seed, "layer": layer, "recall": recalled_without(model, layer, chunks)}
            for layer in layers]  # fmt: skip


def recall_rows(model, kind, seed, chunks, steps, folder):
    """Recall through candidates trained above empty layers by lessons of one kind, by the number of chunks."""
    deep = deepened(model, BELOW)
    added, sizes = added_to(deep, BELOW), dict(chunk=recall.CHUNK, local=recall.LOCAL)
    shared = dict(losses=kind, seed=seed, below=BELOW)
    rows = []
    if kind == "questions":  # once per seed, what needs no training
        for count in chunks:
            found = run.asked(deep, added, count, seed)
            rows.append({"what": "recall", **shared, "losses": "untrained", "chunks": count, **found})
    if kind == "questions":
        lessons = recall.Questions(BATCH, chunks=run.TAUGHT, seed=seed, **sizes)
    else:
        given = dict(batch=BATCH, chunks=run.SPANNED, scored=run.SCORED, losses=run.KINDS[kind], mix="turns", seed=seed)
        lessons = Lessons(recall.texts, **given, **sizes)
    student = recall.Recalling(deep, added, prompt=recall.PROMPT, **sizes)
    settings = dict(steps=steps, learning_rate=run.RATE, weight_decay=0.0)
    history = train(student, lessons, **settings, checkpoint=folder / f"deep-{kind}-{seed}-{steps}.pt")
    if not history.finished:
        raise SystemExit("stopped; the next run goes on from its checkpoint")
    added.requires_grad_(False)
    rows.append({"what": "curve", **shared, "every": 20, "curve": curve(history.losses)})
    for count in chunks:
        tokens = count * recall.CHUNK + recall.LOCAL
        rows.append(
            {"what": "recall", **shared, "chunks": count, "tokens": tokens, **run.asked(deep, added, count, seed)}
        )
    told = ", ".join(f"{row['chunks']}: {row['recall']:.2f}" for row in rows if row["what"] == "recall")
    print(f"seed {seed}, {kind}, {BELOW} empty layers below: recall by chunks {told}", flush=True)
    return rows


KINDS = ("questions", "both", "continuation", "reconstruction")


def main(seeds=run.SEEDS, base_steps=run.BASE, steps=STEPS, kinds=KINDS, chunks=run.CHUNKS, folder=None, target=None):
    reproducible(0, threads=1)
    folder = folder or RUNS / "focus"
    folder.mkdir(parents=True, exist_ok=True)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    source, rows = bench.provenance("python book/measurements/focus/run_depth.py", seed=list(seeds)), []
    for seed in seeds:
        model, name = run.base(seed, base_steps, folder), f"{seed}-{base_steps}"
        rows += once(folder / f"where-{name}.pt", partial(where_rows, model, seed))
        for each in kinds:
            make = partial(recall_rows, model, each, seed, chunks, steps, folder)
            rows += once(folder / f"deep-rows-{each}-{name}-{steps}-{max(chunks)}.pt", make)
    bench.write_measurement(target or Path(__file__).with_name(f"depth-{kind}.json"), source, rows)


if __name__ == "__main__":
    main()
