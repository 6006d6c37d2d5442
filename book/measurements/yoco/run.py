"""YOCO with a window and with gated retention on Shakespeare, and needles in its plays for five models.

python book/measurements/yoco/run.py      writes training-cpu.json or training-gpu.json beside this file

On Shakespeare with the steps and data of retention/run.py, whose Transformer and RetNet have as many parameters.
Training goes on from its checkpoints in .cache/runs when it was interrupted.
"""

from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Characters, shakespeare, split
from effattn_core.measurements import EVERY, LONGEST, RUNS, STEPS, curve, finished, loss_by_position, trained
from effattn_core.yoco.needle import MODELS, NeedleBatches, found, needle_model
from kernels import bench, runtime

TEXT = {"YOCO, window": "small-yoco", "YOCO, gated": "small-yoco-gated"}
SEEDS = (0, 1, 2)
PASSAGE = "To be, or not to be: that is the question:\nWhether 'tis nobler"
NEEDLE_STEPS, NEEDLE_TOKENS, NEEDLE_RATE = 300, 1024, 6e-3
TRAINED_TIMES = (32, 32, 64, 64, 128, 256)  # short texts more often: a model learns to answer at all from them
ASKED_TIMES, DEPTHS = (128, 256, 512, 1024), (0.0, 0.25, 0.5, 0.75, 0.95)


def text_rows(seed, letters, training, held_out, *, steps, longest, folder):
    """Each YOCO on Shakespeare: its curve, and its held-out loss by place."""
    for name, size in TEXT.items():
        path = folder / f"yoco-{name}-{seed}-{steps}.pt"
        model, losses = trained(size, len(letters), training, path, seed=seed, steps=steps)
        shared = {"name": name, "seed": seed, "parameters": model.parameter_count}
        yield {"what": "curve", **shared, "every": EVERY, "losses": curve(losses)}
        for (start, stop), loss in loss_by_position(model.eval(), held_out, longest).items():
            yield {"what": "held out", **shared, "start": start, "stop": stop, "loss": loss}
        if hasattr(model.blocks[0].mixer, "log_gate"):
            yield {"what": "gates", **shared, "passage": PASSAGE, "log_gates": gates(model, letters.encode(PASSAGE))}
        print(f"{name}, seed {seed}: {losses[-1]:.3f}", flush=True)


@torch.no_grad()
def gates(model, tokens):
    """Log gates of every head of every gated layer along a passage: [layers][heads][letters], rounded."""
    found, hidden = [], model.embedding(tokens[None].to(runtime.device()))
    for block in model.blocks:
        log_gate = block.mixer.log_gate(block.before_mixer(hidden))[0]
        found.append([[round(each, 5) for each in head] for head in log_gate.tolist()])
        hidden, _ = block(hidden)
    return found


def needle_rows(seed, letters, training, held_out, *, steps, times, folder):
    """Each model on needles: its curve, and the share that it finds by length and depth."""
    for name in MODELS:
        torch.manual_seed(seed)
        model = needle_model(name, letters, max(times)).to(runtime.device())
        batches = NeedleBatches(training, NEEDLE_TOKENS, TRAINED_TIMES, seed, letters=letters)
        path = folder / f"needle-{name}-{seed}-{steps}.pt"
        losses = finished(model, batches, path, steps=steps, learning_rate=NEEDLE_RATE)
        shared = {"name": name, "seed": seed, "parameters": model.parameter_count}
        yield {"what": "needle curve", **shared, "every": EVERY, "losses": curve(losses)}
        for time in times:
            for depth in DEPTHS:
                share = found(model.eval(), held_out, time, letters=letters, depth=depth)
                yield {"what": "needle", **shared, "tokens": time, "depth": depth, "found": share}
        print(f"needle, {name}, seed {seed}: {losses[-1]:.3f}", flush=True)


def main(
    seeds=SEEDS, steps=STEPS, needle_steps=NEEDLE_STEPS, longest=LONGEST, times=ASKED_TIMES, folder=RUNS, target=None
):
    reproducible(0, threads=1)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        given = (seed, len(letters), training, held_out)
        rows += needle_rows(*given, steps=needle_steps, times=times, folder=folder)
        rows += text_rows(seed, letters, training, held_out, steps=steps, longest=longest, folder=folder)
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
