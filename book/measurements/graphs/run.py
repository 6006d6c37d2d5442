"""What trains too long for a chapter: held-out links of small graphs, by optimizers with and without the graph.

python book/measurements/graphs/run.py      writes training-cpu.json or training-gpu.json beside this file

Of each graph a fifth of the edges is held out, many times (`worlds.cut`). Learning rate, weight decay and when to stop
are chosen for each method on TUNED cuts, by the mean over them, and judged on others, JUDGED. Each run is a part of its
own: an interrupted command goes on after the last that is finished, in .cache/runs/graphs. Rows, by their field `what`:

"graph"      graph, nodes, edges, entries: of the whole; held_out: edges per cut.
"untrained"  graph, method: walk, popularity or chance; scores: NDCG@5 of each judged cut.
"tuning"     graph, method, rate, decay: of a run; best: its largest mean NDCG@5 over the tuned cuts, at: that step.
"judged"     graph, method; rate, decay, at: as chosen; tuned: NDCG@5 there; scores: of each judged cut.
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.graphs import AdamWSEvo, iterated, smooth
from effattn_core.graphs.prediction import Task, trained, untrained
from effattn_core.graphs.worlds import world
from effattn_core.measurements import RUNS, once, rounded
from kernels import bench, runtime

NAMES = ("les miserables", "karate", "davis")
TUNED, JUDGED = tuple(range(20)), tuple(range(100, 140))
RATES, DECAYS = (0.1, 0.03, 0.01, 0.005, 0.002), (0.05, 0.5)
STEPS, EVERY, LAYERS, MIDDLE = 600, 20, 3, 0.9
PLAIN, SMOOTHED_AFTER, IN_EVERY_PASS = "AdamW", "AdamW, table smoothed afterwards", "graph in every pass"


class Iterated(AdamWSEvo):
    """The rival of the series in its place."""

    def smoothed(self, step):
        return iterated(step, self.adjacency, self.smoothing["beta"], self.smoothing["layers"])


def elsewhere(table, adjacency, nodes, **settings):
    """SEvo over the graph with its nodes renamed at random, within each cut."""
    generator = torch.Generator().manual_seed(0)
    order = [torch.randperm(nodes, generator=generator) + start for start in range(0, adjacency.nodes, nodes)]
    return AdamWSEvo(table, adjacency.permuted(torch.cat(order)), **settings)


def plain(table, adjacency, **settings):
    return torch.optim.AdamW([table], **settings)


METHODS = {  # name -> (optimizer, its settings)
    PLAIN: (plain, {}),
    "SEvo, β 0.5": (AdamWSEvo, dict(beta=0.5)),
    "SEvo, β 0.9": (AdamWSEvo, dict(beta=0.9)),
    "SEvo, β 0.99": (AdamWSEvo, dict(beta=0.99)),
    "uncorrected moments": (AdamWSEvo, dict(beta=MIDDLE, corrected=False)),
    "not rescaled": (AdamWSEvo, dict(beta=MIDDLE, rescaled=False)),
    "iterated": (Iterated, dict(beta=MIDDLE)),
    "permuted graph": ("elsewhere", dict(beta=MIDDLE)),
    "correction alone": (AdamWSEvo, dict(beta=0.0)),
    IN_EVERY_PASS: (plain, {}),
}


def curves(task, method, rate, decay, steps, every, until=None):
    """name -> NDCG along a training, [steps // every, cuts]: of the method, and of what is made of its table."""
    kind, settings = METHODS[method]
    kind = partial(elsewhere, nodes=task.nodes) if kind == "elsewhere" else kind
    made = partial(kind, lr=rate, weight_decay=decay, **settings)
    look = partial(smooth, adjacency=task.adjacency, beta=MIDDLE, layers=LAYERS)
    inside = look if method == IN_EVERY_PASS else None
    after = {SMOOTHED_AFTER: look} if method == PLAIN else None
    found = trained(task, made, steps, every, until=until, inside=inside, after=after)
    return {name or method: scores for name, scores in found.items()}


def tuning_rows(task, name, method, rate, decay, steps, every):
    """The best step of a run on the tuned cuts, for the method and what is made of its table."""
    rows = []
    for each, scores in curves(task, method, rate, decay, steps, every).items():
        best, place = scores.mean(1).max(0)
        rows.append(
            {"what": "tuning", "graph": name, "method": each, "rate": rate, "decay": decay, "best": best.item(),
             "at": every * (place.item() + 1)}
        )  # fmt: skip
    return rows


def judged_rows(task, name, method, chosen, steps, every):
    """Each judged cut's NDCG, with what was chosen for the method on the others."""
    run = PLAIN if method == SMOOTHED_AFTER else method
    scores = curves(task, run, chosen["rate"], chosen["decay"], steps, every, chosen["at"])[method][-1]
    return [
        {"what": "judged", "graph": name, "method": method, "tuned": chosen["best"], "scores": rounded(scores)}
        | {key: chosen[key] for key in ("rate", "decay", "at")}
    ]  # fmt: skip


def untrained_rows(task, name):
    return [
        {"what": "untrained", "graph": name, "method": method, "scores": rounded(scores)}
        for method, scores in untrained(task).items()
    ]  # fmt: skip


def main(
    folder=None, names=NAMES, methods=tuple(METHODS), tuned=TUNED, judged=JUDGED, rates=RATES, decays=DECAYS,
    steps=STEPS, every=EVERY, store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "graphs"
    made, rows = bench.provenance("make runs"), []
    for name in names:
        found, tuning, judging = world(name), Task(world(name), tuned), Task(world(name), judged)
        rows.append(
            {"what": "graph", "graph": name, "nodes": found.nodes, "edges": found.edges.shape[1],
             "entries": found.adjacency.entries, "held_out": int(tuning.wanted[0].sum()) // 2}
        )  # fmt: skip
        rows += once(store / f"{name}-untrained.pt", partial(untrained_rows, judging, name))
        for method in methods:
            trials = []
            for rate in rates:
                for decay in decays:
                    make = partial(tuning_rows, tuning, name, method, rate, decay, steps, every)
                    trials += once(store / f"{name}-{method}-{rate}-{decay}-{steps}.pt", make)
            rows += trials
            for each in dict.fromkeys(row["method"] for row in trials):
                chosen = max((row for row in trials if row["method"] == each), key=lambda row: row["best"])
                make = partial(judged_rows, judging, name, each, chosen, steps, every)
                rows += once(store / f"{name}-{each}-judged-{steps}.pt", make)
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
