"""What trains too long for a chapter: random bits by router, and experts on Shakespeare at equal operations.

python book/measurements/routing/run.py      writes training-cpu.json or training-gpu.json beside this file

Each run is a part of its own: an interrupted command goes on after the last that is finished, in .cache/runs/routing.
"""

from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import RUNS, once
from effattn_core.model import build, configuration
from effattn_core.routing import ROUTERS, violation
from effattn_core.routing.future import changed_before, loss_on_bits
from effattn_core.train import evaluate, train
from kernels import bench, runtime

SEEDS = (0, 1, 2)
BITS = ("top_k", "past_prices", "expert_choice", "prices")
# Equal operations per token: 8 experts of half the dense width, two of them per token.
SIZES = dict(width=64, layers=2, heads=4, key_value_heads=2, head_dim=16, context=128)
DENSE, EXPERTS = dict(feed_forward=176), dict(feed_forward=88, experts=8, top_k=2)
RUNS_OF = {  # name -> (router or None, balance)
    "dense": (None, 0.0), "top-k": ("top_k", 0.0), "top-k, balancing loss": ("top_k", 0.01),
    "GShard, balancing loss": ("gshard", 0.01), "expert choice": ("expert_choice", 0.0),
    "MaxScore, released": ("maxscore_released", 0.01), "prices": ("prices", 0.0), "bias": ("bias", 0.0),
    "past prices": ("past_prices", 0.0),
}  # fmt: skip
STEPS, BATCH, RATE, TOKENS = 300, 16, 6e-3, 20000


def leak_rows(trials):
    """The share of a prefix that changes with what follows it, for each router."""
    return [{"what": "prefix", "router": each, "share": changed_before(each, trials=trials)} for each in ROUTERS]


def bit_rows(router, seed, steps, evaluated):
    """Loss in nats on fresh random bits, as trained and as it decodes."""
    return [
        {
            "what": "bits",
            "router": router,
            "seed": seed,
            **loss_on_bits(router, seed=seed, steps=steps, evaluated=evaluated),
        }
    ]


def text_rows(name, seed, letters, tokens, held_out, steps):
    """A training on Shakespeare: losses as trained and as it decodes, and loads before the capacity."""
    router, balance = RUNS_OF[name]
    sizes = DENSE if router is None else {**EXPERTS, "router": router, "balance": balance}
    torch.manual_seed(seed)
    model = build(configuration("tiny", letters, **SIZES, **sizes)).to(runtime.device())
    layers = [block.feed_forward for block in model.blocks] if router else []
    violations, handles = [], []
    for layer in layers:
        handles.append(layer.register_forward_hook(lambda made, *_: violations.append(violation(made.load))))
    history = train(
        model, Batches(tokens, BATCH, SIZES["context"], seed), steps=steps, learning_rate=RATE, progress=False
    )
    for handle in handles:
        handle.remove()
    model.eval()
    row = {"what": "text", "router": name, "seed": seed, "decoding": evaluate(model, held_out)}
    for layer in layers:
        layer.matched = True
    last = violations[-len(violations) // 4 :]
    row |= {"trained": evaluate(model, held_out), "violation": fmean(last) if last else None}
    return [{**row, "curve": [round(each, 4) for each in history.losses[:: max(1, steps // 15)]]}]


def main(
    folder=None, seeds=SEEDS, bit_steps=1200, evaluated=2048, steps=STEPS, trials=20, names=tuple(RUNS_OF), store=None
):
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "routing"
    made = bench.provenance("make runs")
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    parts = {f"prefix-{trials}": partial(leak_rows, trials)}
    parts |= {f"bits-{r}-{s}-{bit_steps}": partial(bit_rows, r, s, bit_steps, evaluated) for r in BITS for s in seeds}
    parts |= {
        f"text-{'-'.join(name.split())}-{seed}-{steps}": partial(
            text_rows, name, seed, len(letters), training, held_out[: min(TOKENS, 60 * steps)], steps
        )
        for name in names for seed in seeds
    }  # fmt: skip
    rows = []
    for name, make in parts.items():
        rows += once(store / f"{name}-{runtime.mode}.pt", make)
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
