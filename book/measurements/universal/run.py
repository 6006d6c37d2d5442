"""Loops 1 to 4 with one set of weights: YOCO-U against a looped Transformer and a deeper YOCO, on Shakespeare.

python book/measurements/universal/run.py      writes training-cpu.json or training-gpu.json beside this file

Smaller models, shorter windows and fewer steps than retention/run.py has, because each loop costs what layers cost.
Training goes on from its checkpoints in .cache/runs when it was interrupted.
"""

import dataclasses
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import EVERY, RUNS, curve, finished
from effattn_core.model import configuration
from effattn_core.states import kept_bytes
from effattn_core.train import evaluate
from effattn_core.universal import RandomLoops, UniversalTransformer, UniversalYOCO, loop_changes
from effattn_core.universal import costs as costs_universal
from kernels import bench, runtime

SEEDS, STEPS, BATCH, CONTEXT = (0, 1, 2), 240, 8, 128
LOOPS = (1, 2, 3, 4)
ASKED = (1, 2, 3, 4, 6, 8)  # loops at which a trained YOCO-U is evaluated
HELD_OUT = 8 * 1024 + 1
KEPT = (1024, 4096)  # tokens after which the caches are summed

SHAPE = dict(width=64, heads=4, key_value_heads=2, head_dim=16)
YOCO = dict(SHAPE, layers=4, cross_layers=2, window=16, feed_forward=176)
TRANSFORMER = dict(SHAPE, layers=3, feed_forward=248)  # as many parameters
# By name: sizes, the loops trained with (a tuple is drawn from), and nothing else is changed.
MODELS = {
    **{("YOCO-U", loops): dict(YOCO, loops=loops) for loops in LOOPS},
    **{("looped Transformer", loops): dict(TRANSFORMER, loops=loops) for loops in LOOPS},
    ("YOCO-U, embedding again", 4): dict(YOCO, loops=4, reinject=True),
    ("YOCO-U, random loops", 4): dict(YOCO, loops=4),
    ("YOCO without loops", 1): dict(YOCO, layers=2 + 4 * 2),  # as deep as four loops, no weight shared
}
# All are trained from the first seed; from the others these alone, to see how far seeds are apart.
REPEATED = (*(("YOCO-U", loops) for loops in LOOPS), *(("looped Transformer", loops) for loops in (1, 2)))


def sizes_of(key, vocabulary, context=CONTEXT):
    """The Configuration of an entry of MODELS."""
    return configuration("tiny", vocabulary, **MODELS[key], context=context)


def built(sizes):
    """A looped model even of one loop, so that every one can be asked with other loops than it was trained with."""
    return (UniversalYOCO if sizes.cross_layers else UniversalTransformer)(sizes).to(runtime.device())


def training_flops(key, sizes):
    """Operations a token of training: three times the forward pass, on average over the loops that are drawn."""
    drawn = LOOPS if "random" in key[0] else (sizes.loops,)
    each = [costs_universal.forward_flops(dataclasses.replace(sizes, loops=loops), CONTEXT) for loops in drawn]
    return 3 * sum(each) / len(each) / CONTEXT


def model_rows(key, seed, letters, training, held_out, *, steps, folder):
    """One training: its curve, its held-out loss at its own loops and at others, and what each loop changes."""
    sizes = sizes_of(key, letters)
    torch.manual_seed(seed)
    model = built(sizes)
    trained = RandomLoops(model, sizes.loops, seed) if "random" in key[0] else model
    path = folder / f"universal-{key[0]}-{key[1]}-{seed}-{steps}.pt"
    losses = finished(trained, Batches(training, BATCH, CONTEXT, seed), path, steps=steps)
    shared = {"name": key[0], "loops": key[1], "seed": seed, "parameters": model.parameter_count}
    yield {"what": "curve", **shared, "every": EVERY, "losses": curve(losses)}
    model.eval()
    for loops in ASKED if key[0].startswith("YOCO-U") else (sizes.loops,):
        asked = model.with_loops(loops)
        flops = costs_universal.forward_flops(asked.sizes, CONTEXT) / CONTEXT
        yield {
            "what": "held out", **shared, "asked": loops, "loss": evaluate(asked, held_out[:HELD_OUT]),
            "flops": flops, "training_flops": training_flops(key, sizes),
        }  # fmt: skip
    if key[0].startswith("YOCO-U"):
        window = held_out[: 8 * CONTEXT].view(8, CONTEXT).to(runtime.device())
        changes = loop_changes(model.with_loops(max(ASKED)), window)
        yield {
            "what": "changes",
            **shared,
            "changes": [each for each, _ in changes],
            "sizes": [each for _, each in changes],
        }
    print(f"{key[0]}, {key[1]} loops, seed {seed}: {losses[-1]:.3f}", flush=True)


def kept_rows(letters, tokens, contexts=KEPT):
    """Bytes of the real states after each number of letters, weights at random, beside the formula."""
    for key in MODELS:
        if key[0] not in ("YOCO-U", "looped Transformer"):
            continue
        for context in contexts:
            sizes = sizes_of(key, letters, context)
            with torch.no_grad():
                _, states = built(sizes).prefill(tokens[None, :context].to(runtime.device()), chunk=512)
            yield {
                "what": "kept", "name": key[0], "loops": key[1], "tokens": context, "bytes": kept_bytes(states),
                "formula": costs_universal.kept(sizes, element=4).total,
            }  # fmt: skip


def main(seeds=SEEDS, steps=STEPS, contexts=KEPT, models=tuple(MODELS), folder=RUNS, target=None):
    reproducible(0, threads=1)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        for key in models if seed == seeds[0] else [key for key in models if key in REPEATED]:
            rows += model_rows(key, seed, len(letters), training, held_out, steps=steps, folder=folder)
    rows += kept_rows(len(letters), held_out, contexts)
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
