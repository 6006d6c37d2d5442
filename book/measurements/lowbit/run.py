"""What trains too long for a chapter: a language model on the plays, by optimizers of 32 to 2 bits.

python book/measurements/lowbit/run.py      writes training-cpu.json or training-gpu.json beside this file

Each run is a part of its own: an interrupted command goes on after the last that is finished, in .cache/runs/lowbit.
--jobs 8 runs eight at a time, with two threads each. The rows, by their field `what`; losses in nats per letter, held
out:

"text"       name (of `training.MAKERS`), beta1, rate (the peak), seed, steps; loss, None where training broke off, at
             step `broke`; bytes: of the states, over the parameters; move: the largest move of a weight in a step,
             over the rate, and calm: the median step's; zero, lost: see `training.zero_shares`, half-way through;
             curve: [step, training loss].
"histogram"  tensor, seed, step, first, counts, zeros: v of AdamW in float32, by quarters of a decade.
"block"      tensor, seed, step, place, v, m: moments of one block of 128, as AdamW in float32 has them.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from statistics import fmean, median

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.lowbit import state_bytes
from effattn_core.lowbit.training import Moves, histogram, optimizer_of, zero_shares
from effattn_core.measurements import RUNS, once
from effattn_core.model import build, configuration
from effattn_core.train import evaluate, train
from kernels import bench, runtime

SEEDS, STEPS, BATCH, RATE, TOKENS = (0, 1, 2), 300, 16, 3e-3, 40000
BETA1S = {  # name -> what β1 it is trained with
    "AdamW": (0.9, 0.8, 0.5),
    "8-bit": (0.9,),
    "SOLO 4/2": (0.9, 0.8, 0.5),
    "SOLO 2/2": (0.9, 0.8, 0.5),
    "naive 4/4": (0.9,),
    "naive 2/2": (0.9,),
    "SOLO 3/3": (0.8,),
    "SOLO 4/2, unbiased": (0.8,),
    "SOLO 2/2, signed extreme": (0.5,),
    "4/4, linear v": (0.9,),
    "4/2, linear v": (0.8,),
}
# Longer steps or shorter ones, for what may be a change of the step's length alone.
SWEPT, RATES = ("AdamW", "SOLO 4/2", "SOLO 4/2, unbiased"), (1.5e-3, 6e-3)
ARMS = tuple((name, beta1, RATE) for name, many in BETA1S.items() for beta1 in many)
LATER = tuple((name, 0.8, rate) for rate in RATES for name in SWEPT)
SEEN = ("embedding.weight", "blocks.0.mixer.query.weight", "blocks.1.feed_forward.down.weight", "head.weight")
BLOCKS = 4  # of each tensor of SEEN


def text_rows(name, beta1, rate, seed, letters, training, held_out, steps):
    """A training: its held-out loss, its states' bytes, its largest move; for plain AdamW its moments too."""
    torch.manual_seed(seed)
    model = build(configuration("tiny", letters)).to(runtime.device())
    optimizer = optimizer_of(name, model, beta1, lr=rate, **({} if name == "AdamW" else {"seed": seed}))
    moves, halfway, batches = Moves(optimizer), {}, Batches(training, BATCH, model.sizes.context, seed)

    def look(*_):
        if len(moves.largest) == max(1, steps // 2):
            halfway.update(zero_shares(optimizer))

    optimizer.register_step_post_hook(look)
    row = {"what": "text", "name": name, "beta1": beta1, "rate": rate, "seed": seed, "steps": steps, "broke": None}
    losses = []
    try:
        losses = train(model, batches, steps=steps, learning_rate=rate, optimizer=optimizer, progress=False).losses
        row["loss"] = evaluate(model, held_out)
    except FloatingPointError:
        row |= {"loss": None, "broke": len(moves.largest)}
    moves.close()
    row |= {"bytes": state_bytes(optimizer) / model.parameter_count, "parameters": model.parameter_count}
    row |= {"move": max(moves.largest), "calm": median(moves.largest), **halfway}
    every = max(1, steps // 25)
    row["curve"] = [[at, round(fmean(losses[at : at + every]), 4)] for at in range(0, len(losses), every)]
    seen = moment_rows(model, optimizer, seed, steps) if name == "AdamW" and beta1 == 0.9 and seed == 0 else []
    return [row, *seen]


def moment_rows(model, optimizer, seed, steps):
    """Histograms of v, and a few blocks of both moments, of the tensors SEEN."""
    rows, weights = [], dict(model.named_parameters())
    for name in SEEN:
        state, told = optimizer.state[weights[name]], {"tensor": name, "seed": seed, "step": steps}
        m, v = (state[each].flatten() for each in ("exp_avg", "exp_avg_sq"))
        rows.append({"what": "histogram", **told, **histogram(v)})
        for number in range(BLOCKS):
            place = number * (v.numel() // 128 // BLOCKS)
            part = slice(128 * place, 128 * place + 128)
            found = {key: [float(f"{each:.4g}") for each in kept[part].tolist()] for key, kept in (("v", v), ("m", m))}
            rows.append({"what": "block", **told, "place": place, **found})
    return rows


@cache
def texts():
    """(letters in the alphabet, training tokens, held-out tokens), read once per process."""
    text = shakespeare()
    letters = Characters(text)
    return len(letters), *split(letters.encode(text))


def part_rows(store, arm, seed, steps):
    """The rows of one arm (name, beta1, rate) and seed, as stored or run now."""
    (name, beta1, rate), (letters, training, held_out) = arm, texts()
    held_out = held_out[: min(TOKENS, 200 * steps)]
    part = f"text-{'-'.join(name.replace('/', '').split())}-{beta1}-{rate}-{seed}-{steps}-{runtime.mode}.pt"
    make = partial(text_rows, name, beta1, rate, seed, letters, training, held_out, steps)
    return once(Path(store) / part, make)


def main(folder=None, seeds=SEEDS, steps=STEPS, arms=ARMS, later=LATER, store=None, jobs=1):
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again.

    What is done is written after each seed; the arms of `later` come when all seeds have the others.
    """
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "lowbit"
    made, rows = bench.provenance("make runs"), []
    if jobs > 1:
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=spawned, initializer=reproducible) as pool:
            asked = [(arm, seed) for many in (arms, later) for seed in seeds for arm in many]
            for done in [pool.submit(part_rows, store, arm, seed, steps) for arm, seed in asked]:
                done.result()
    for many in (arms, later):
        for seed in seeds:
            for arm in many:
                rows += part_rows(store, arm, seed, steps)
            bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    main(jobs=parser.parse_args().jobs)
