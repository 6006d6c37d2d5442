"""Hybrids: recurrent layers, one of which mixes by attention instead. Associative recall, and Shakespeare by letters.

python book/measurements/recurrences/run_hybrid.py     writes hybrid-cpu.json or hybrid-gpu.json beside this file

A run that is done is kept in .cache/runs/recurrences-hybrid, one file each: an interrupted command goes on after the
last. Four layers of width 64; a head's state holds 16 keys, and a text shows 8 to 64 pairs, so that the largest do not
fit. `layer` is where the attention stands, from 0; None: nowhere; "all": in every layer.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import RUNS, once
from effattn_core.model import LanguageModel
from effattn_core.recurrences.recall import RecallBatches, recall_accuracy, recall_configuration, recall_model
from effattn_core.train import evaluate, train
from kernels import bench, runtime

LAYERS, KEYS = 4, 64
RULES = ("mamba2", "gated_delta")
ARMS = (("softmax", "all"), *((rule, layer) for rule in RULES for layer in (None, *range(LAYERS))))
SEEDS = (0, 1, 2)
CASES = ((8, 0), (16, 0), (32, 0), (64, 0))  # (pairs, rewritten)
RECALL_STEPS, TEXT_STEPS = 300, 300
KEPT_AT = 4096  # tokens after which what a model keeps is counted


def settings_of(name, layer):
    """(rule, the settings that make the arm): what `recall_configuration` takes."""
    among = {"attention_layers": (layer,)} if isinstance(layer, int) else {}
    return (None if name == "softmax" else name), {"layers": LAYERS, **among}


@torch.no_grad()
def kept_bytes(rule, settings, tokens=KEPT_AT):
    """Bytes that the model's states hold after a text of so many tokens, in float32."""
    model = LanguageModel(recall_configuration(rule, KEYS, **settings, context=tokens))
    _, states = model.prefill(torch.zeros(1, tokens, dtype=torch.int64), chunk=512)
    return sum(state.kept_bytes for state in states)


def recall_rows(name, layer, seed, steps=RECALL_STEPS):
    """Accuracy of one model after training on all CASES by turns, one row per case."""
    rule, settings = settings_of(name, layer)
    torch.manual_seed(seed)
    model = recall_model(rule, keys=KEYS, **settings).to(runtime.device())
    train(model, RecallBatches(CASES, 32, seed, keys=KEYS), steps=steps, learning_rate=5e-3, progress=False)
    shared = {"what": "recall", "name": name, "layer": layer, "seed": seed, "parameters": model.parameter_count,
              "steps": steps}  # fmt: skip
    rows = [
        {**shared, "pairs": pairs, "accuracy": recall_accuracy(model.eval(), pairs, keys=KEYS)} for pairs, _ in CASES
    ]
    print(f"recall {name}, attention {layer}, seed {seed}: {rows[-1]['accuracy']:.3f}", flush=True)
    return rows


def text_rows(name, layer, seed, steps=TEXT_STEPS):
    """Held-out loss in nats per letter of one model after a short training on Shakespeare: one row."""
    rule, settings = settings_of(name, layer)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    torch.manual_seed(seed)
    model = LanguageModel(recall_configuration(rule, len(letters), **settings)).to(runtime.device())
    train(model, Batches(training, 8, 128, seed), steps=steps, learning_rate=6e-3, progress=False)
    loss = evaluate(model.eval(), held_out[:16385])
    print(f"text {name}, attention {layer}, seed {seed}: {loss:.3f}", flush=True)
    return [{"what": "text", "name": name, "layer": layer, "seed": seed, "parameters": model.parameter_count,
             "steps": steps, "loss": loss}]  # fmt: skip


def kept_rows(arms=ARMS, tokens=KEPT_AT):
    """What each arm keeps: one row, measured on its states."""
    return [
        {"what": "kept", "name": name, "layer": layer, "tokens": tokens,
         "bytes": kept_bytes(*settings_of(name, layer), tokens)}
        for name, layer in arms
    ]  # fmt: skip


def main(
    seeds=SEEDS, arms=ARMS, recall_steps=RECALL_STEPS, text_steps=TEXT_STEPS, tokens=KEPT_AT,
    folder=RUNS / "recurrences-hybrid", target=None,
):  # fmt: skip
    reproducible(0, threads=1)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"hybrid-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    rows += kept_rows(arms, tokens)
    for seed in seeds:
        for make, steps in ((recall_rows, recall_steps), (text_rows, text_steps)):
            for name, layer in arms:
                path = folder / f"{make.__name__}-{name}-{layer}-{seed}-{steps}-{runtime.mode}.pt"
                rows += once(path, partial(make, name, layer, seed, steps))
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
