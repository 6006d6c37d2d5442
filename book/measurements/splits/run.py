"""What trains too long for a chapter: digits split as four hospitals' recordings are, and digits moved without data.

python book/measurements/splits/run.py      writes training-cpu.json or training-gpu.json beside this file

Each arm and seed is a part of its own: an interrupted command goes on after the last that is finished, in
.cache/runs/splits. A seed draws the split, the network, the order of its batches. Rows, by their field `what`:

"split"      seed; counts: digits per institution and class; tail: the rarest classes.
"federated"  arm, rounds, epochs (per round), seed; macro, tail, own: accuracies as `institutions.judged` gives them.
"teacher"    seed; source: its accuracy on held-out MNIST, target: on the other collection.
"student"    arm, seed; accuracy on held-out MNIST. Of arms that make images up also balance, matching: weights of the
             loss; sure: the teacher's mean largest probability on them, said: the share on which it says the class
             wanted (inverted images); classes: the share of each class it says; images of one seed, ten of 64 numbers.
"adapted"    arm, seed; accuracy on the other collection; classes: "all", or "0 to 4" where only those are there.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.measurements import RUNS, once, rounded
from effattn_core.splits import institutions, writers
from effattn_core.splits.transfer import PSEUDO
from kernels import bench, runtime

FEDERATED = {  # arm -> (method, pull)
    "all data in one place": ("central", 0.0),
    "each alone": ("local", 0.0),
    "FedAvg, by examples": ("FedAvg, by examples", 0.0),
    "FedAvg, equal": ("FedAvg, equal", 0.0),
    "FedProx .01": ("FedProx", 0.01),
    "FedProx .3": ("FedProx", 0.3),
    "Scaffold": ("Scaffold", 0.0),
    "Scaffold, as released": ("Scaffold, as released", 0.0),
    "Ditto .3": ("Ditto", 0.3),
}
FEW = ("FedAvg, by examples", "FedAvg, equal", "Scaffold", "Scaffold, as released")  # with a quarter of the rounds
ADAPTED = {  # arm -> settings of `adapt`
    "entropy alone": dict(diverse=False),
    "pseudo-labels alone": dict(sure=False, pseudo=1.0),
    "entropy and diversity": {},
    "entropy, diversity, pseudo-labels": dict(pseudo=PSEUDO),
}
BALANCES, MATCHINGS = (0.0, 5.0), (0.0, 0.1, 1.0, 10.0)


def federated_rows(arm, seed, rounds, epochs):
    method, pull = FEDERATED[arm]
    data = institutions.wards(seed)
    found = institutions.judged(
        data, *institutions.trained(data, method, rounds=rounds, epochs=epochs, seed=seed, pull=pull)
    )
    row = {"what": "federated", "arm": arm, "rounds": rounds, "epochs": epochs, "seed": seed}
    return [row | rounded(found)]


def transfer_rows(seed, *, epochs, steps, pixel_steps, count, adapting, grid):
    """All rows of one teacher."""
    images, labels, test_images, test_labels = writers.source()
    other, other_labels = writers.target()
    model = writers.teacher(images, labels, seed=seed, epochs=epochs)
    generator = torch.Generator().manual_seed(seed)
    rows = [
        {"what": "teacher", "seed": seed, "source": writers.accuracy(model, test_images, test_labels),
         "target": writers.accuracy(model, other, other_labels)}
    ]  # fmt: skip

    def pick(pool):
        return lambda: pool[torch.randint(len(pool), (128,), generator=generator)]

    def student(arm, draw, **more):
        pupil = writers.distilled(writers.student(seed), model, draw, steps=steps)
        score = writers.accuracy(pupil, test_images, test_labels)
        rows.append({"what": "student", "arm": arm, "seed": seed, "accuracy": score} | more)

    student("MNIST itself", pick(images))
    student("the other collection, unlabelled", pick(other))
    student("uniform noise", lambda: torch.rand(128, writers.SIDE**2, generator=generator))
    for balance, matching in grid:
        maker = writers.made_up(model, seed=seed, steps=steps, beta=balance, matching=matching)
        with torch.no_grad():
            shown = maker(torch.randn(1000, writers.NOISE, generator=generator))
        more = dict(balance=balance, matching=matching, **_asked(model, shown, seed))
        student("generator", partial(_drawn, maker, generator), **more)
    for matching in (0.0, 1.0):
        shown, wanted = writers.inverted(model, seed=seed, count=count, steps=pixel_steps, matching=matching)
        said = writers.accuracy(model, shown, wanted)
        student("pixels", pick(shown), matching=matching, said=said, **_asked(model, shown, seed))
    few = other_labels < 5
    for name, where in (("all", other_labels >= 0), ("0 to 4", few)):
        there, truth = other[where], other_labels[where]
        found = {"source alone": model, "new BatchNorm statistics": writers.renormalised(model, there)}
        for arm, settings in ADAPTED.items():
            found[arm] = writers.adapted(model, there, epochs=adapting, rate=0.01, seed=seed, **settings)
        rows += [
            {"what": "adapted", "arm": arm, "classes": name, "seed": seed,
             "accuracy": writers.accuracy(each, there, truth)}
            for arm, each in found.items()
        ]  # fmt: skip
    plain = writers.teacher(writers.padded(), labels, seed=seed, epochs=epochs)
    for arm, each in (
        ("source alone, uncropped", plain),
        ("adapted, uncropped", writers.adapted(plain, other, epochs=adapting, rate=0.01, seed=seed, pseudo=PSEUDO)),
    ):
        score = writers.accuracy(each, other, other_labels)
        rows.append({"what": "adapted", "arm": arm, "classes": "all", "seed": seed, "accuracy": score})
    return rows


@torch.no_grad()
def _drawn(maker, generator):
    return maker(torch.randn(128, writers.NOISE, generator=generator))


@torch.no_grad()
def _asked(model, shown, seed):
    """What the teacher says of made-up images, and of the first seed ten of them, each of another class if it can."""
    probability = model(shown).softmax(1)
    said = probability.argmax(1)
    found = {
        "sure": probability.max(1).values.mean().item(),
        "classes": rounded(said.bincount(minlength=10) / len(said)),
        "unlike": model.statistics_loss(shown).item(),
    }
    if seed == 0:
        order = [(said == digit).nonzero()[:1, 0] for digit in range(10)]
        chosen = torch.cat([*order, torch.arange(10)])[:10]
        found["images"] = rounded(shown[chosen], 2)
        found["read"] = said[chosen].tolist()
    return found


def main(
    folder=None, seeds=range(8), rounds=40, epochs=5, fewer=4, arms=tuple(FEDERATED), teachers=range(3),
    training=15, steps=1500, pixel_steps=300, count=2000, adapting=15,
    grid=tuple((balance, matching) for balance in BALANCES for matching in MATCHINGS), store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0, threads=1)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "splits"
    made, rows = bench.provenance("make runs"), []
    for seed in seeds:
        data = institutions.wards(seed)
        rows.append({"what": "split", "seed": seed, "counts": data.counts.tolist(), "tail": data.tail})
        for arm in arms:
            for less in (1, fewer) if arm in FEW else (1,):
                shape = rounds // less, epochs * less
                rows += once(
                    store / f"{arm}-{shape[0]}x{shape[1]}-{seed}.pt", partial(federated_rows, arm, seed, *shape)
                )
    for seed in teachers:
        make = partial(
            transfer_rows, seed, epochs=training, steps=steps, pixel_steps=pixel_steps, count=count, adapting=adapting,
            grid=grid,
        )  # fmt: skip
        rows += once(store / f"transfer-{seed}-{steps}.pt", make)
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
