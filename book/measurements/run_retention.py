"""RetNet against the Transformer of the attention chapter: same parameters, data and steps, on Shakespeare.

python book/measurements/run_retention.py      writes retention-training-cpu.json or -gpu.json beside this file

Training goes on from its checkpoints in .cache/runs when it was interrupted.
"""

import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.model import LanguageModel, configuration
from effattn_core.train import train
from kernels import bench, runtime

MODELS = {"Transformer": "small", "RetNet": "small-retention"}
SEEDS = (0, 1, 2)
STEPS, BATCH, CONTEXT, LONGEST = 400, 8, 256, 4096
DECODED = (1024, 4096, 16384, 65536)
ROOT = Path(__file__).resolve().parents[2]


def trained(name, seed, letters, training, *, steps=STEPS, folder=ROOT / ".cache" / "runs"):
    """(model, losses) of one run, gone on from its checkpoint if there is one."""
    torch.manual_seed(seed)
    model = LanguageModel(configuration(MODELS[name], len(letters), context=CONTEXT)).to(runtime.device())
    path = folder / f"retention-{name}-{seed}-{steps}.pt"
    history = train(model, Batches(training, BATCH, CONTEXT, seed), steps=steps, learning_rate=6e-3, checkpoint=path)
    if not history.finished:
        sys.exit(f"stopped; the next run goes on from {path.name}")
    return model, history.losses


@torch.no_grad()
def loss_by_position(model, tokens, longest=LONGEST, windows=16):
    """Mean held-out loss in nats a letter of the positions [start, stop), in windows of `longest` letters."""
    text = tokens[: windows * longest + 1].to(runtime.device())
    inputs, targets = text[:-1].view(windows, longest), text[1:].view(windows, longest)
    losses = [
        functional.cross_entropy(model(each[None])[0][0], target, reduction="none")
        for each, target in zip(inputs, targets, strict=True)
    ]
    mean, edges = torch.stack(losses).mean(0), [0, CONTEXT]
    while edges[-1] < longest:
        edges.append(2 * edges[-1])
    return {(start, stop): mean[start:stop].mean().item() for start, stop in zip(edges, edges[1:], strict=False)}


@torch.no_grad()
def decode_rows(letters, contexts=DECODED, repeats=15):
    """Time of one decoded letter and bytes kept, after each number of letters, weights and past at random."""
    rows = []
    for name, size in MODELS.items():
        for context in contexts:
            model = LanguageModel(configuration(size, len(letters), context=context + repeats + 3))
            model.to(runtime.device())
            states = [_filled(state, context) for state in model.new_states()]
            token = torch.zeros(1, 1, dtype=torch.int64, device=runtime.device())
            taken = []
            for turn in range(repeats + 3):
                begin = time.perf_counter()
                _, states = model(token, states)
                if runtime.mode == "gpu":
                    torch.cuda.synchronize()
                if turn >= 3:
                    taken.append(time.perf_counter() - begin)
            lower, middle, upper = statistics.quantiles(taken, n=4, method="inclusive")
            rows.append(
                {"what": "decode", "name": name, "tokens": context, "median": middle, "lower_quartile": lower,
                 "upper_quartile": upper, "repeats": repeats, "bytes": sum(_kept(state) for state in states)}
            )  # fmt: skip
            print(f"{name}, {context:,} tokens: {1e3 * middle:.2f} ms, {rows[-1]['bytes']:,} B kept")
    return rows


def _filled(state, context):
    """A state as it is after `context` tokens: a cache is filled with noise, a retention's state has one size."""
    if hasattr(state, "append"):
        state._key.normal_(), state._value.normal_()
        state.length = context
    return state


def _kept(state):
    """Bytes of what is filled: the tensors are summed, not computed from a formula."""
    if hasattr(state, "append"):
        return state.key.nbytes + state.value.nbytes
    return state.nbytes


def main(seeds=SEEDS, steps=STEPS, contexts=DECODED, longest=LONGEST, folder=ROOT / ".cache" / "runs", target=None):
    reproducible(0)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    path = target or Path(__file__).with_name(f"retention-training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        for name in MODELS:
            model, losses = trained(name, seed, letters, training, steps=steps, folder=folder)
            means = [statistics.fmean(losses[at : at + 20]) for at in range(0, len(losses), 20)]
            shared = {"name": name, "seed": seed, "parameters": model.parameter_count}
            rows.append({"what": "curve", **shared, "every": 20, "losses": [round(mean, 4) for mean in means]})
            for (start, stop), loss in loss_by_position(model.eval(), held_out, longest).items():
                rows.append({"what": "held out", **shared, "start": start, "stop": stop, "loss": loss})
            print(f"{name}, seed {seed}: {losses[-1]:.3f}")
    rows += decode_rows(letters, contexts)
    bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
