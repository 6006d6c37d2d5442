"""RetNet against the Transformer of the attention chapter: same parameters, data and steps, on Shakespeare.

python book/measurements/retention/run.py      writes training-cpu.json or training-gpu.json beside this file

Training goes on from its checkpoints in .cache/runs when it was interrupted.
"""

import statistics
import time
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.data import Characters, shakespeare, split
from effattn_core.measurements import EVERY, LONGEST, RUNS, STEPS, curve, loss_by_position, trained
from effattn_core.model import LanguageModel, configuration
from effattn_core.states import kept_bytes
from kernels import bench, runtime

MODELS = {"Transformer": "small", "RetNet": "small-retention"}
SEEDS = (0, 1, 2)
DECODED = (1024, 4096, 16384, 65536)


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
                 "upper_quartile": upper, "repeats": repeats, "bytes": kept_bytes(states)}
            )  # fmt: skip
            print(f"{name}, {context:,} tokens: {1e3 * middle:.2f} ms, {rows[-1]['bytes']:,} B kept")
    return rows


def _filled(state, context):
    """A state as it is after `context` tokens: a cache is filled with noise, a retention's state has one size."""
    if state.grows:
        state._key.normal_(), state._value.normal_()
        state.length = context
    return state


def main(seeds=SEEDS, steps=STEPS, contexts=DECODED, longest=LONGEST, folder=RUNS, target=None):
    reproducible(0)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    target = target or Path(__file__).with_name(f"training-{kind}.json")
    source, rows = bench.provenance("make runs", seed=list(seeds)), []
    for seed in seeds:
        for name in MODELS:
            path = folder / f"retention-{name}-{seed}-{steps}.pt"
            model, losses = trained(MODELS[name], len(letters), training, path, seed=seed, steps=steps)
            shared = {"name": name, "seed": seed, "parameters": model.parameter_count}
            rows.append({"what": "curve", **shared, "every": EVERY, "losses": curve(losses)})
            for (start, stop), loss in loss_by_position(model.eval(), held_out, longest).items():
                rows.append({"what": "held out", **shared, "start": start, "stop": stop, "loss": loss})
            print(f"{name}, seed {seed}: {losses[-1]:.3f}")
    rows += decode_rows(letters, contexts)
    bench.write_measurement(target, source, rows)


if __name__ == "__main__":
    main()
