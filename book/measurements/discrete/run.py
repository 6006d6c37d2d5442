"""Rule nets trained: tables and estimators, depth, random binarisation, and what a penalty hides.

python book/measurements/discrete/run.py      writes training-cpu.json or training-gpu.json beside this file
"""

from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.discrete.activations import LAF, MILD, PRODUCT, SHARP
from effattn_core.discrete.nets import RuleNet, fit
from effattn_core.discrete.reading import literals_per_rule, read
from effattn_core.discrete.rulesets import judged, train_rule_sets
from effattn_core.discrete.tables import LINES, NAMES, THRESHOLDS, Encoder, split, table
from effattn_core.measurements import RUNS, once
from kernels import bench, runtime

ARMS = {
    "grafted NLAF .999/8/1": (SHARP, "grafted"), "grafted NLAF .9/3/3": (MILD, "grafted"),
    "grafted LAF": (LAF, "grafted"), "grafted product": (PRODUCT, "grafted"), "straight-through": (PRODUCT, "straight"),
    "soft, then cut: NLAF .9/3/3": (MILD, "soft"), "soft, then cut: LAF": (LAF, "soft"),
}  # fmt: skip
SEEDS, NODES, STEPS, EPOCHS = (0, 1, 2), 32, 700, 400
SHARES, SHARED_EPOCHS = (0.0, 0.25, 0.5, 0.75), 100


def prepared(name, seed, thresholds=None):
    """(table, literals of all rows, training rows, test rows): thresholds and spreads from training rows."""
    found = table(name)
    train, test = split(found, seed)
    encode = Encoder(found, train, thresholds=thresholds or THRESHOLDS.get(name, 10), seed=seed)
    return found, encode(found.columns), train, test


def scored(net, literals, labels, train, test):
    rows = {f"{where}": round(net.accuracy(literals[rows], labels[rows]), 4)
            for where, rows in (("train", train), ("test", test))}  # fmt: skip
    return rows | {"soft": round(net.accuracy(literals[test], labels[test], hard=False), 4)}


def net_rows(name, arm, seed, steps):
    found, literals, train, test = prepared(name, seed)
    activation, estimator = ARMS[arm]
    torch.manual_seed(seed)
    net = RuleNet(literals.shape[1], NODES, len(found.classes), activation=activation, estimator=estimator)
    fit(net, literals[train], found.labels[train], steps=steps, seed=seed)
    rules, _ = read(net, literals[train])
    counted = {"rules": len(rules), "literals": round(literals_per_rule(rules), 2)}
    scores = scored(net, literals, found.labels, train, test)
    return [{"what": "table", "table": name, "arm": arm, "seed": seed} | scores | counted]


def plain_rows(name, seed):
    """Trees and logistic regression on the plain features (one-hot on boards), scaled by training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    found, literals, train, test = prepared(name, seed)
    columns = (literals if found.values is not None else found.columns).numpy()
    labels, rows = found.labels.numpy(), []
    for arm, model in {
        "tree": DecisionTreeClassifier(random_state=seed),
        "tree of 10 leaves": DecisionTreeClassifier(max_leaf_nodes=10, random_state=seed),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
    }.items():
        model.fit(columns[train], labels[train])
        leaves = int(model.get_n_leaves()) if "tree" in arm else None
        test_score = round(float(model.score(columns[test], labels[test])), 4)
        rows.append({"what": "table", "table": name, "arm": arm, "seed": seed, "test": test_score, "rules": leaves})
    return rows


def board_rows(seed, epochs):
    """The released code's settings for tic-tac-toe, and what was read from the net; the first net is kept whole."""
    found, literals, train, test = prepared("tic-tac-toe", seed)
    torch.manual_seed(seed)
    net = RuleNet(literals.shape[1], 64, 2, activation=MILD, temperature=0.01)
    steps = epochs * -(-len(train) // 32)
    fit(net, literals[train], found.labels[train], steps=steps, rate=0.002, penalty=1e-3, batch=32, seed=seed,
        drop=steps // 2)  # fmt: skip
    rules, bias = read(net, literals[train])
    wins = {tuple(3 * place for place in line) for line in LINES}  # the literal "x here" is the first of three
    lines = sum(rule.kind == "and" and rule.picks in wins for rule in rules)
    row = {"what": "boards", "seed": seed, "rules": len(rules), "literals": round(literals_per_rule(rules), 2),
           "lines": lines} | scored(net, literals, found.labels, train, test)  # fmt: skip
    read_out = [{"kind": rule.kind, "picks": list(rule.picks), "support": round(rule.support, 4),
                 "vote": round(rule.votes[1] - rule.votes[0], 3)} for rule in rules]  # fmt: skip
    row |= {"read": read_out, "bias": round((bias[1] - bias[0]).item(), 3)}
    if seed == 0:
        heat = net.log_temperature.exp()
        votes = (net.votes.weight[1] - net.votes.weight[0]) / heat
        row |= {"weights": (1000 * net.levels[0].weight.detach()).round().int().tolist(),
                "votes": [round(each, 3) for each in votes.tolist()],
                "own": round(((net.votes.bias[1] - net.votes.bias[0]) / heat).item(), 3)}  # fmt: skip
    return [row]


def depth_rows(layers, estimator, seed, steps):
    found, literals, train, test = prepared("tic-tac-toe", seed)
    torch.manual_seed(seed)
    net = RuleNet(literals.shape[1], NODES, 2, layers=layers, activation=MILD, estimator=estimator)
    fit(net, literals[train], found.labels[train], steps=steps, seed=seed)
    scores = scored(net, literals, found.labels, train, test)
    return [{"what": "depth", "layers": layers, "estimator": estimator, "seed": seed} | scores]


def random_rows(shares, seeds, epochs):
    """MLLP, four levels deep, weights cut at random in training: nets side by side, on one split."""
    found, literals, train, test = prepared("tic-tac-toe", 0)
    weights = train_rule_sets(literals[train], found.labels[train], 2, shares, seeds, epochs=epochs)
    soft, _ = judged(literals[test], found.labels[test], weights, hard=False)
    hard, tied = judged(literals[test], found.labels[test], weights, hard=True)
    names = [(share, seed) for share in shares for seed in seeds]
    return [
        {"what": "random", "share": share, "seed": seed, "soft": round(one, 4), "test": round(two, 4),
         "tied": round(ties, 4)}
        for (share, seed), one, two, ties in zip(names, soft.tolist(), hard.tolist(), tied.tolist(), strict=True)
    ]  # fmt: skip


def decay_rows(penalty, seed, steps):
    """The product over 600 literals, with and without a penalty inside the loss: do its weights move?"""
    found, literals, train, test = prepared("breast", seed)
    torch.manual_seed(seed)
    net = RuleNet(literals.shape[1], NODES, 2, activation=PRODUCT)
    before = net.levels[0].weight.detach().clone()
    fit(net, literals[train], found.labels[train], steps=steps, penalty=penalty, seed=seed)
    moved = (net.levels[0].weight.detach() - before).abs().max().item()
    rules, _ = read(net, literals[train])
    row = {"what": "decay", "penalty": penalty, "seed": seed, "literals_in": literals.shape[1], "moved": moved}
    return [row | scored(net, literals, found.labels, train, test) | {"rules": len(rules)}]


def main(
    folder=None, names=NAMES, arms=tuple(ARMS), seeds=SEEDS, steps=STEPS, epochs=EPOCHS, layers=(1, 2, 3),
    shares=SHARES, shared_epochs=SHARED_EPOCHS, store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0, threads=1)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "discrete"
    made, rows = bench.provenance("make runs"), []

    def keep(name, make):
        rows.extend(once(store / f"{name}.pt", make))

    for seed in seeds:
        for name in names:
            keep(f"{name}-plain-{seed}", partial(plain_rows, name, seed))
            for arm in arms:
                part = f"{name}-{list(ARMS).index(arm)}-{seed}-{steps}"
                keep(part, partial(net_rows, name, arm, seed, steps))
        keep(f"boards-{seed}-{epochs}", partial(board_rows, seed, epochs))
        for number in layers:
            for estimator in ("grafted", "single"):
                part = f"depth-{number}-{estimator}-{seed}-{steps}"
                keep(part, partial(depth_rows, number, estimator, seed, steps))
        for penalty in (0.0, 1e-4):
            keep(f"decay-{penalty}-{seed}-{steps}", partial(decay_rows, penalty, seed, steps))
    keep(f"random-{len(shares)}-{shared_epochs}", partial(random_rows, shares, seeds, shared_epochs))
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
