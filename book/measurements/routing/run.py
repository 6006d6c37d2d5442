"""What trains too long for a chapter: random bits by router, experts on Shakespeare at equal operations, and every
router beside the optimum.

python book/measurements/routing/run.py      writes training-cpu.json or training-gpu.json beside this file

Each run is a part of its own: an interrupted command goes on after the last that is finished, in .cache/runs/routing.
The rows, by their field `what`; shares are of 1, losses in nats, loads over an equal share:

"prefix"  router, top_k, trials, share: of the first half's tokens whose experts change with the second half.
"bits"    router, seed, steps, trained, decoding: loss on fresh random bits, routed as in training and as it decodes;
          ln 2 is the least that a model can have which sees the past alone.
"value"   router, top_k, skew, seed, ratio: value over the optimum's; load: the fullest expert's after the capacity;
          demand: before it, as the router counts it; missing: choices that were not placed (below 0 where experts
          chose more); none: tokens without an expert; gap: the certificate, None without prices or bounds.
          Beside the routers of `ROUTERS`: "prices, 5 rounds", "prices, 5 rounds, not rounded", and "replicated", the
          trap, with duplicates: choices that a token has twice. Routers that carry a state have seen LEARNT batches of
          the same law before. Those made for one choice are held against the optimum of one choice.
"text"    name (of RUNS_OF), router, seed, steps, decoding, trained: held-out losses; over the last quarter of the
          training violation (MaxVio before the capacity), after (the same of what was placed), missing, none; quiet:
          MaxVio on held-out text as it decodes; curve: [step, training loss].
"""

import math
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from effattn_core import reproducible
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import RUNS, once
from effattn_core.model import build, configuration
from effattn_core.routing import (
    BOUND,
    ROUTERS,
    capacity_of,
    gap,
    optimum,
    priced,
    quantile_prices,
    replicated,
    rounded,
    route,
    value_of,
    violation,
)
from effattn_core.routing.future import changed_before, loss_on_bits, seasoned, skewed
from effattn_core.routing.interface import CHOICES, STATEFUL
from effattn_core.train import evaluate, train
from kernels import bench, runtime

SEEDS, SKEWS, LEARNT = (0, 1, 2), (0.0, 1.0, 2.0, 3.0), 400
# Random bits: short texts and few per step, for a router that matches is called for each; the rate makes up for it.
BITS = ("top_k", "past_prices", "expert_choice", "prices")
BIT_SIZES, BIT_STEPS = dict(batch=16, time=4, learning_rate=1e-2), 600
# Equal operations per token: 8 experts of half the dense width, two of them per token. The window is short, for a
# small model learns letters from those just before sooner than from all. A token's weights sum to 1: as they come out
# of the softmax over 8 experts, they start the layer at a quarter of the dense one's size, which has runs of its own.
SIZES = dict(width=64, layers=2, heads=4, key_value_heads=2, head_dim=16, context=128, window=16)
DENSE, EXPERTS = dict(feed_forward=176), dict(feed_forward=88, experts=8, top_k=2)
AS_THEY_ARE = "top-k, weights as they are"
RUNS_OF = {  # name -> (router or None, balance, whether a batch or one text is routed together)
    "dense": (None, 0.0, None),
    "top-k": ("top_k", 0.0, "batch"),
    "top-k, balancing loss": ("top_k", 0.01, "batch"),
    "GShard, balancing loss": ("gshard", 0.01, "batch"),
    "expert choice": ("expert_choice", 0.0, "batch"),
    "MaxScore, released": ("maxscore_released", 0.01, "sequence"),  # as released; 2,048 tokens would take 6 s a layer
    "prices": ("prices", 0.0, "sequence"),
    "bias": ("bias", 0.0, "batch"),
    "past prices": ("past_prices", 0.0, "batch"),
    AS_THEY_ARE: ("top_k", 0.01, "batch"),
}
STEPS, BATCH, RATE, TOKENS = 200, 16, 6e-3, 20000


def prefix_rows(trials):
    """The share of a prefix that changes with what follows it, for each router."""
    return [
        {"what": "prefix", "router": each, "top_k": CHOICES.get(each, 2), "trials": trials,
         "share": changed_before(each, trials=trials)}
        for each in ROUTERS
    ]  # fmt: skip


def bit_rows(router, seed, steps, evaluated):
    """Loss in nats on fresh random bits, as trained and as it decodes."""
    found = loss_on_bits(router, seed=seed, steps=steps, evaluated=evaluated, **BIT_SIZES)
    return [{"what": "bits", "router": router, "seed": seed, "steps": steps, **found}]


def value_rows(skew, seed, tokens, experts, learnt):
    """What every router makes of one matrix of scores, over the optimum."""
    generator = torch.Generator().manual_seed(seed)
    column = skew * torch.randn(experts, dtype=torch.float64, generator=generator)
    scores = skewed(tokens, experts, skew, generator, column)
    values, best, rows = scores.softmax(1), {}, []
    for top_k in (1, 2):
        best[top_k] = optimum(values, top_k, capacity_of(tokens, experts, top_k)).value

    def add(router, top_k, mask, demand, prices=None, **more):
        capacity, bounded = capacity_of(tokens, experts, top_k), prices is not None and not more
        rows.append(
            {"what": "value", "router": router, "top_k": top_k, "skew": skew, "seed": seed,
             "ratio": value_of(values, mask) / best[top_k], "load": mask.sum(0).max().item() / capacity,
             "demand": demand.max().item() * experts / (tokens * top_k),
             "missing": 1 - mask.sum().item() / (tokens * top_k), "none": (mask.sum(1) == 0).double().mean().item(),
             "gap": gap(values, mask, prices, top_k, capacity) if bounded else None, **more}
        )  # fmt: skip

    for router in ROUTERS:
        top_k, state = CHOICES.get(router, 2), None
        if router in STATEFUL and BOUND[router] == "free":
            sizes = dict(tokens=tokens, experts=experts, top_k=top_k, column=column)
            state = seasoned(router, **sizes, batches=learnt, seed=seed)
        found = route(scores, router=router, top_k=top_k, state=state)
        add(router, top_k, found.mask, found.wanted, found.prices)
    capacity, wanted = capacity_of(tokens, experts, 2), route(scores, router="top_k", top_k=2).wanted
    prices = quantile_prices(values, 2, capacity, rounds=5, middle=False)
    add("prices, 5 rounds", 2, rounded(values, prices, 2, capacity), wanted, prices)
    mask = priced(values, prices, 2)
    add("prices, 5 rounds, not rounded", 2, mask, mask.sum(0))
    counts = replicated(values, 2, capacity)
    add("replicated", 2, counts, wanted, duplicates=(counts > 1).sum().item() / (2 * tokens))
    return rows


class Watch:
    """What a layer's router did: a hook of the layer for the loads of a call, and of its router for what was placed."""

    def __init__(self, layer):
        self.layer, self.calls, self.routed = layer, [], layer._routed
        layer._routed, self.hook = self.route, layer.register_forward_hook(self.end)
        self.masks = []

    def route(self, scores):
        found = self.routed(scores)
        self.masks.append(found[0])
        return found

    def end(self, *_):
        mask, self.masks = torch.cat(self.masks), []
        wanted, placed = len(mask) * self.layer.top_k, mask.sum().item()
        self.calls.append(
            {"violation": violation(self.layer.load), "after": violation(mask.sum(0)), "missing": 1 - placed / wanted,
             "none": (mask.sum(1) == 0).double().mean().item()}
        )  # fmt: skip

    def close(self):
        self.hook.remove()
        del self.layer._routed


def means(watches, share=1.0):
    """The mean of each thing watched, over the last `share` of each layer's calls."""
    last = [call for each in watches for call in each.calls[-math.ceil(share * len(each.calls)) :]]
    return {name: fmean(call[name] for call in last) for name in last[0]} if last else {}


def text_rows(name, seed, letters, tokens, held_out, steps):
    """A training on Shakespeare: losses as trained and as it decodes, and what the router did."""
    router, balance, scope = RUNS_OF[name]
    sizes = DENSE if router is None else {**EXPERTS, "router": router, "balance": balance}
    torch.manual_seed(seed)
    model = build(configuration("tiny", letters, **SIZES, **sizes)).to(runtime.device())
    layers = [block.feed_forward for block in model.blocks] if router else []
    for layer in layers:
        layer.scope, layer.normalised = scope, name != AS_THEY_ARE
    watches = [Watch(layer) for layer in layers]
    batches = Batches(tokens, BATCH, SIZES["context"], seed)
    history = train(model, batches, steps=steps, learning_rate=RATE, progress=False)
    model.eval()
    row = {"what": "text", "name": name, "router": router, "seed": seed, "steps": steps}
    row |= dict.fromkeys(("violation", "after", "missing", "none", "quiet")) | means(watches, 0.25)
    for watch in watches:
        watch.calls.clear()
    row["decoding"] = evaluate(model, held_out)
    if layers:
        row["quiet"] = means(watches)["after"]
    for watch in watches:
        watch.close()
        watch.layer.matched = True
    row["trained"] = evaluate(model, held_out)
    every = max(1, steps // 25)
    curve = [[at, round(fmean(history.losses[at : at + every]), 4)] for at in range(0, steps, every)]
    return [{**row, "curve": curve}]


def main(
    folder=None, seeds=SEEDS, bit_steps=BIT_STEPS, evaluated=2048, steps=STEPS, trials=20, names=tuple(RUNS_OF),
    skews=SKEWS, matrix=(512, 16), learnt=LEARNT, store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "routing"
    made = bench.provenance("make runs")
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    held_out = held_out[: min(TOKENS, 60 * steps)]
    parts = {f"prefix-{trials}": partial(prefix_rows, trials)}
    parts |= {
        f"value-{skew}-{seed}-{learnt}": partial(value_rows, skew, seed, *matrix, learnt)
        for skew in skews for seed in seeds
    }  # fmt: skip
    parts |= {
        f"text-{'-'.join(name.split())}-{seed}-{steps}-normalised": partial(
            text_rows, name, seed, len(letters), training, held_out, steps
        )
        for seed in seeds for name in names
    }  # fmt: skip
    parts |= {f"bits-{r}-{s}-{bit_steps}-2": partial(bit_rows, r, s, bit_steps, evaluated) for s in seeds for r in BITS}
    rows = []
    for name, make in parts.items():
        rows += once(store / f"{name}-{runtime.mode}.pt", make)
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
