"""Facts recalled from chunks by a small frozen model: which lessons its candidates learn it from, and where they lose.

python book/measurements/focus/run.py      writes recall-cpu.json or recall-gpu.json beside this file

Per seed a model of short texts is trained and frozen; then candidates are trained on it by each kind of lesson. What is
finished is kept in .cache/runs/focus: an interrupted command goes on after the last.
"""

import statistics
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import reproducible
from effattn_core.focus import Added, recall
from effattn_core.focus.training import LOSSES, Lessons, logits
from effattn_core.measurements import RUNS, curve, finished, once
from effattn_core.train import train
from kernels import bench, runtime

SEEDS = (0, 1, 2)
BASE, STEPS, BATCH, RATE, SCORED = 500, 250, 64, 5e-3, 8
CHUNKS = (1, 2, 4, 8, 16)  # over which questions are asked
TAUGHT, SPANNED = (1, 2), (2, 3)  # chunks of a lesson that asks, and of one that must hold a span
MEMORY, SIZES = 128, (8, 16, 32, 64)  # tokens of one memory, and the chunks that it is cut into
ASKED = 256
KINDS = {"continuation": LOSSES[:1], "reconstruction": LOSSES[1:], "both": LOSSES, "questions": ()}


def base(seed, steps, folder):
    """The frozen model of a seed, gone on from its checkpoint if there is one."""
    made = recall.model(seed)
    finished(made, recall.Texts(16, seed=seed), folder / f"base-{seed}-{steps}.pt", steps=steps, learning_rate=1e-2)
    return made.eval().requires_grad_(False)


def taught(model, kind, seed, steps, folder):
    """(projections, losses) after lessons of a kind."""
    added, sizes = Added(model, 0), dict(chunk=recall.CHUNK, local=recall.LOCAL)
    if kind == "questions":
        lessons = recall.Questions(BATCH, chunks=TAUGHT, seed=seed, **sizes)
    else:
        given = dict(batch=BATCH, chunks=SPANNED, scored=SCORED, losses=KINDS[kind], mix="turns", seed=seed)
        lessons = Lessons(recall.texts, **given, **sizes)
    student = recall.Recalling(model, added, prompt=recall.PROMPT, **sizes)
    settings = dict(steps=steps, learning_rate=RATE, weight_decay=0.0)
    history = train(student, lessons, **settings, checkpoint=folder / f"added-{kind}-{seed}-{steps}.pt")
    if not history.finished:
        raise SystemExit("stopped; the next run goes on from its checkpoint")
    return added.requires_grad_(False), history.losses


@torch.no_grad()
def asked(model, added, chunks, seed, *, chunk=recall.CHUNK, dense=False):
    """(share of right answers, mean loss of the answer in nats) to questions over `chunks` chunks."""
    lesson, _ = recall.questions(ASKED, chunks, torch.Generator().manual_seed(1000 + seed), chunk=chunk)
    if dense:
        found = model(torch.cat([lesson.memory, lesson.local], 1))[0][:, -1]
    else:
        found = logits(model, added, lesson, chunk=chunk, prompt=recall.PROMPT)[:, 0]
    right = (found.argmax(-1) == lesson.target[:, 0]).double().mean().item()
    return dict(recall=round(right, 4), loss=round(functional.cross_entropy(found, lesson.target[:, 0]).item(), 4))


def baseline_rows(model, seed, chunks):
    """What needs no training of candidates: the whole text, past the trained window too; the local text; copies."""
    rows = []
    for count in chunks:
        shared = dict(seed=seed, chunks=count, tokens=count * recall.CHUNK + recall.LOCAL)
        rows.append({"what": "baseline", "name": "dense", **shared, **asked(model, None, count, seed, dense=True)})
        rows.append({"what": "baseline", "name": "window only", **shared, **asked(model, None, count, seed)})
        untrained = asked(model, Added(model, 0), count, seed)
        rows.append({"what": "recall", "losses": "untrained", **shared, **untrained})
    return rows


def recall_rows(model, kind, seed, chunks, steps, folder):
    """Recall after lessons of one kind, by the number of chunks; and, of one memory, by the size of its chunks."""
    added, losses = taught(model, kind, seed, steps, folder)
    rows = [{"what": "curve", "losses": kind, "seed": seed, "every": 20, "curve": curve(losses)}]
    for count in chunks:
        tokens = count * recall.CHUNK + recall.LOCAL
        shared = dict(losses=kind, seed=seed, chunks=count, tokens=tokens)
        rows.append({"what": "recall", **shared, **asked(model, added, count, seed)})
    for size in SIZES:
        # Half of the cells hold a fact, and one more is put into some chunk.
        facts = size / recall.CELL / 2 + size / MEMORY
        shared = dict(losses=kind, seed=seed, chunk=size, chunks=MEMORY // size, facts=round(facts, 3))
        rows.append({"what": "losing", **shared, **asked(model, added, MEMORY // size, seed, chunk=size)})
    told = ", ".join(f"{row['chunks']}: {row['recall']:.2f}" for row in rows if row["what"] == "recall")
    print(f"seed {seed}, {kind}: recall by chunks {told}", flush=True)
    return rows


def main(seeds=SEEDS, base_steps=BASE, steps=STEPS, kinds=tuple(KINDS), chunks=CHUNKS, folder=None, target=None):
    reproducible(0, threads=1)
    folder = folder or RUNS / "focus"
    folder.mkdir(parents=True, exist_ok=True)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    source, rows = bench.provenance("python book/measurements/focus/run.py", seed=list(seeds)), []
    for seed in seeds:
        model, name = base(seed, base_steps, folder), f"{seed}-{base_steps}"
        rows += once(folder / f"baseline-{name}-{max(chunks)}.pt", partial(baseline_rows, model, seed, chunks))
        for each in kinds:
            make = partial(recall_rows, model, each, seed, chunks, steps, folder)
            rows += once(folder / f"recall-{each}-{name}-{steps}-{max(chunks)}.pt", make)
    for each in kinds:
        last = [row["recall"] for row in rows if row["what"] == "recall" and row["losses"] == each]
        print(f"{each}: mean recall {statistics.fmean(last):.3f}")
    bench.write_measurement(target or Path(__file__).with_name(f"recall-{kind}.json"), source, rows)


if __name__ == "__main__":
    main()
