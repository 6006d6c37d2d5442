"""Every rule of the table, and softmax attention, trained alike: associative recall, and Shakespeare by letters.

python book/measurements/recurrences/run.py     writes training-cpu.json or training-gpu.json beside this file

A run that is done is kept in .cache/runs/recurrences, one file each: an interrupted command goes on after the last.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import RUNS, once
from effattn_core.model import LanguageModel
from effattn_core.recurrences import RULES
from effattn_core.recurrences.recall import RecallBatches, recall_accuracy, recall_configuration, recall_model
from effattn_core.train import evaluate, train
from kernels import bench, runtime

SOFTMAX = "softmax"
NAMES = (*RULES, SOFTMAX)
SEEDS = (0, 1, 2)
CASES = ((8, 0), (16, 0), (32, 0), (8, 8), (16, 16))  # (pairs, rewritten): below, at and above the state's 16 keys
RECALL_STEPS, TEXT_STEPS = 300, 150


def rule_of(name):
    """The rule of a row's name; None for softmax attention."""
    return None if name == SOFTMAX else name


def recall_rows(name, seed, steps=RECALL_STEPS):
    """Accuracy of one model after training on all CASES by turns, a row a case."""
    torch.manual_seed(seed)
    model = recall_model(rule_of(name)).to(runtime.device())
    train(model, RecallBatches(CASES, 32, seed), steps=steps, learning_rate=1e-2, progress=False)
    shared = {"what": "recall", "name": name, "seed": seed, "parameters": model.parameter_count, "steps": steps}
    rows = [
        {**shared, "pairs": pairs, "rewritten": rewritten,
         "accuracy": recall_accuracy(model.eval(), pairs, rewritten=rewritten)}
        for pairs, rewritten in CASES
    ]  # fmt: skip
    print(f"recall {name}, seed {seed}: {rows[-1]['accuracy']:.3f}", flush=True)
    return rows


def text_rows(name, seed, steps=TEXT_STEPS):
    """Held-out loss in nats a letter of one model after a short training on Shakespeare: one row."""
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    torch.manual_seed(seed)
    model = LanguageModel(recall_configuration(rule_of(name), len(letters))).to(runtime.device())
    train(model, Batches(training, 8, 128, seed), steps=steps, learning_rate=6e-3, progress=False)
    loss = evaluate(model.eval(), held_out[:16385])
    print(f"text {name}, seed {seed}: {loss:.3f}", flush=True)
    shared = {"what": "text", "name": name, "seed": seed, "parameters": model.parameter_count, "steps": steps}
    return [{**shared, "loss": loss}]


def main(
    seeds=SEEDS, names=NAMES, recall_steps=RECALL_STEPS, text_steps=TEXT_STEPS, folder=RUNS / "recurrences", target=None
):
    reproducible(0, threads=1)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        for make, steps in ((recall_rows, recall_steps), (text_rows, text_steps)):
            for name in names:
                path = folder / f"{make.__name__}-{name}-{seed}-{steps}-{runtime.mode}.pt"
                rows += once(path, partial(make, name, seed, steps))
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
