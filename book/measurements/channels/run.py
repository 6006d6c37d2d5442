"""Masks of key channels, learned and by rules: on a needle among random keys, and on a model of Shakespeare.

python book/measurements/channels/run.py      writes training-cpu.json or training-gpu.json beside this file

Models go on from their checkpoints in .cache/runs when the run was interrupted; what is finished is read from there.
"""

import time
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.channels import build_mask, keep_top
from effattn_core.channels import needle as channels_needle
from effattn_core.channels import training as channels_training
from effattn_core.data import Batches, Characters, shakespeare, split
from effattn_core.measurements import RUNS, finished, once
from effattn_core.model import LanguageModel, configuration
from kernels import bench, runtime

SEEDS = (0, 1, 2)
NEEDLE = dict(shares=(0.3, 0.5, 0.7), steps=300)
SIZES = dict(head_dim=32, heads=8, key_value_heads=4, context=128)
STEPS, LEARN, HARDEN, BATCH = 200, 80, 20, 16
SHARES, ALIGN, REGION = (0.25, 0.5, 0.75), 8, dict(sinks=2, recent=8)
TEXTS = 32  # held-out texts of the model's context that divergences are measured on
STAGES = "learned, two stages", "learned, stage 1"


def needle_rows(seed, *, shares, steps):
    """Errors of each rule at each share, and the importances: all, and means by eighths of the pairs, fastest first."""
    generator = torch.Generator().manual_seed(seed)
    importance = channels_needle.learn(generator, steps=steps)
    octiles = importance.view(len(importance), 8, -1).mean((0, 2)).tolist()
    rows = [{"what": "needle", "seed": seed, **row} for row in channels_needle.compare(importance, shares, generator)]
    values = [[round(each, 4) for each in head] for head in importance.tolist()]
    kept = {"octiles": [round(each, 4) for each in octiles], "values": values}
    return [*rows, {"what": "needle importance", "seed": seed, **kept}]


def trained(seed, letters, training, steps, folder=RUNS):
    """The model of a seed, gone on from its checkpoint if there is one."""
    torch.manual_seed(seed)
    model = LanguageModel(configuration("tiny", len(letters), **SIZES)).to(runtime.device())
    path = folder / f"channels-{seed}-{steps}.pt"
    finished(model, Batches(training, BATCH, SIZES["context"], seed), path, steps=steps, learning_rate=8e-3)
    return model.eval()


def importances(model, training, seed, *, learn=LEARN, harden=HARDEN, shares=SHARES):
    """Stage 1 once, under "1", and stage 2 from it for each share, under "2 <share>"."""

    def batches(stage):
        return Batches(training, BATCH // 2, SIZES["context"], 10 * stage + seed)

    first = channels_training.learn(model, batches(1), steps=learn, **REGION)
    found = {"1": first.cpu()}
    for share in shares:
        hard = dict(pruned=share, align=ALIGN, penalty=0.0, learning_rate=0.02, steps=harden)
        found[f"2 {share}"] = channels_training.learn(model, batches(2), first, **hard, **REGION).cpu()
    return found


def masks(model, training, seed, found, share):
    """rule -> the mask that it keeps at a share, all in multiples of ALIGN channels per head."""
    shape = found["1"].shape
    pages = training[: BATCH * SIZES["context"]].view(BATCH, -1).to(runtime.device())
    rules = dict(zip(STAGES, (found[f"2 {share}"], found["1"]), strict=True)) | {
        "sizes of q and k": channels_training.by_norm(model, pages).detach().cpu(),
        "random": torch.rand(shape, generator=torch.Generator().manual_seed(seed)),
        "slowest pairs": channels_training.by_frequency(shape),
        "fastest pairs": channels_training.by_frequency(shape, fastest=True),
    }
    made = {name: build_mask(each, share, ALIGN) for name, each in rules.items()}
    return made | {"learned, equal counts": keep_top(found[f"2 {share}"], round(shape[-1] * (1 - share)))}


def text_rows(model, tokens, training, seed, found, shares=SHARES):
    """KL to the dense model and held-out loss of each rule at each share, and what the learned masks keep."""
    device = runtime.device()
    for share in shares:
        for rule, kept in masks(model, training, seed, found, share).items():
            kl, dense, pruned = channels_training.divergence(model, tokens.to(device), kept.to(device), **REGION)
            row = {
                "what": "text",
                "seed": seed,
                "rule": rule,
                "pruned": share,
                "kept": kept.double().mean().item(),
                "empty": (kept.sum(-1) == 0).double().mean().item(),
                "kl": kl,
                "loss": pruned,
                "dense": dense,
            }
            yield row | ({"counts": kept.sum(-1).tolist()} if rule in STAGES else {})
    for stage, values in found.items():
        rounded = [[[round(each, 4) for each in head] for head in layer] for layer in values.tolist()]
        yield {"what": "importance", "seed": seed, "stage": stage, "values": rounded}


def main(seeds=SEEDS, steps=STEPS, learn=LEARN, harden=HARDEN, needle=NEEDLE, texts=TEXTS, folder=RUNS, target=None):
    reproducible(0, threads=1)
    text = shakespeare()
    letters = Characters(text)
    training, held_out = split(letters.encode(text))
    tokens = held_out[: texts * (SIZES["context"] + 1)].view(texts, -1)
    kind = "gpu" if runtime.mode == "gpu" else "cpu"
    source, rows, begin = bench.provenance("make runs", seed=list(seeds)), [], time.process_time()
    for seed in seeds:
        name = f"channels-{seed}-{steps}-{learn}-{harden}"
        rows += once(folder / f"channels-needle-{seed}-{needle['steps']}.pt", partial(needle_rows, seed, **needle))
        model = trained(seed, letters, training, steps, folder)
        stages = partial(importances, model, training, seed, learn=learn, harden=harden)
        found = once(folder / f"{name}-importance.pt", stages)
        rows += list(text_rows(model, tokens, training, seed, found))
        print(f"seed {seed}: {time.process_time() - begin:.0f} s of a processor so far")
    path = target or Path(__file__).with_name(f"training-{kind}.json")
    bench.write_measurement(path, source, rows)


if __name__ == "__main__":
    main()
