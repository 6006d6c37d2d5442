"""What trains too long for a chapter: students of programs, of verdicts, and the replaced-token head as a classifier.

python book/measurements/signals/run.py      writes training-cpu.json or training-gpu.json beside this file

Settings are first guesses, the same for all arms, and none was chosen by a score. Seeds draw data and start; users'
wordings and plays are the same in all. Each part is kept in .cache/runs/signals. Rows, by their field `what`:

"grounding"  skeleton, draw: grounded or at random; share: of draws whose program has an answer; count: of draws.
"questions"  arm, seed; accuracy, constrained: right answers, of the likeliest program, of the likeliest that executes.
"round"      arm, seed, round; purity, coverage: of what self-training keeps.
"claims"     arm, seed; accuracy, true, false, program: verdicts, those on true and false claims, programs, and
             `wrong agree true`, `wrong agree false`: how often a wrong program returns the right verdict.
"ties"       column; share: of "another row" negatives that are true in fact.
"tokens"     arm, seed, draw, few, steps; accuracy: on windows of act III. few: windows per label.
"shown"      text, words: their own or shuffled; says, truth; labels, plays, scores: logit plus bias of each label word.
"replaced"   seed; area: under the curve of the discriminator on held-out windows; majority: of the test labels.
"""

import random
from functools import partial
from pathlib import Path

import torch

from effattn_core import reproducible
from effattn_core.measurements import RUNS, once, rounded
from effattn_core.signals import programs, questions, tables, tokens
from kernels import bench, runtime

SEEDS = (0, 1, 2)
FEW, LONG = (0, 4, 16, 48), 240
# arm -> (share of claims that are said twice, least probability of an own verdict)
SELF_TRAINED = {
    "own verdicts": (0.0, 0.0),
    "own verdicts above .8": (0.0, 0.8),
    "own verdicts, a fifth said twice": (0.2, 0.0),
    "own verdicts above .8, a fifth said twice": (0.2, 0.8),
}


def grounding_rows(count):
    draws = {"grounded": programs.grounded, "at random": programs.at_random}
    return [
        {"what": "grounding", "skeleton": name, "draw": word, "count": count,
         "share": programs.share_that_executes(name, draw, count)}
        for name in programs.SKELETONS for word, draw in draws.items()
    ]  # fmt: skip


def question_rows(seed, sizes):
    found, rows = questions.sets(seed, **sizes), []

    def judged(arm, student):
        scores = (questions.accuracy(student, found.tested, each) for each in (False, True))
        return {"what": "questions", "arm": arm, "seed": seed} | dict(
            zip(("accuracy", "constrained"), scores, strict=True)
        )

    pairs = questions.with_truth
    for arm, given in {
        "synthetic only": found.synthetic,
        "gold only": found.gold,
        "synthetic and gold": found.synthetic + found.gold,
        "all labelled": [each for each in found.unlabelled if each.truth],
    }.items():
        rows.append(judged(arm, questions.trained(pairs(given))))
    for rule in questions.FILTERS:
        student, rounds = questions.self_trained(rule, found)
        rows.append(judged(rule, student))
        rows += [{"what": "round", "arm": rule, "seed": seed} | each for each in rounds]
    return rows


def claim_rows(seed, synthetic, unlabelled, tested):
    generator = random.Random(seed)
    made, asked = tables.claims(synthetic, generator), tables.claims(tested, generator, users=True)
    given = {share: tables.claims(unlabelled, generator, users=True, mixed=share) for share in (0.0, 0.2)}
    students = {"synthetic only": lambda: tables.Student(made).fit(made)}
    for arm, (share, sure) in SELF_TRAINED.items():
        students[arm] = partial(tables.self_trained, made, given[share], sure)
    true = [each for each in given[0.0] if each.verdict]
    for arm, part in {"verdicts given": given[0.0], "true verdicts given": true}.items():
        verdicts = torch.tensor([each.verdict for each in part])
        students[arm] = lambda part=part, v=verdicts: tables.Student([*made, *part]).fit(made, part, v)
    return [
        {"what": "claims", "arm": arm, "seed": seed, **tables.scored(make(), asked)} for arm, make in students.items()
    ]


def tie_rows(draws):
    return [
        {"what": "ties", "column": column, "share": tables.true_by_chance(column, draws)} for column in tables.COLUMNS
    ]


def token_rows(seed, steps, batch, few, long, draws=2):
    model, area = tokens.pretrained(seed, steps, batch)
    share = torch.bincount(tokens.corpus().tested[1]).max().item() / len(tokens.corpus().tested[1])
    rows = [{"what": "replaced", "seed": seed, "area": area, "majority": share}]
    for arm in tokens.ARMS:
        for count in few:
            for taught in (tokens.TUNING_STEPS, long) if count == max(few) else (tokens.TUNING_STEPS,):
                for draw in range(draws):
                    scores = tokens.tuned(model, arm, count, draws * seed + draw, taught)
                    rows.append(
                        {"what": "tokens", "arm": arm, "seed": seed, "draw": draw, "few": count, "steps": taught,
                         "accuracy": tokens.accuracy(scores)}
                    )  # fmt: skip
    return rows


def shown_rows(steps, batch, few, texts=8):
    """What a tuned model gives to the label words behind some test windows, and behind shuffled ones."""
    model, _ = tokens.pretrained(0, steps, batch)
    found, titles = tokens.corpus(), list(tokens.TASK)
    words = {place: word for word, place in found.places.items()}
    chosen = torch.linspace(0, len(found.tested[0]) - 1, texts).long()
    rows = []
    for name, arm in {"their own": "label words", "shuffled": "shuffled words"}.items():
        scores, shown = tokens.tuned(model, arm, few, 0), tokens.shown_labels(arm, 0).tolist()
        given = torch.logit(1 - scores(found.tested[0][chosen]).double())
        for number, place in enumerate(chosen.tolist()):
            rows.append(
                {"what": "shown", "text": number + 1, "words": name, "truth": found.tested[1][place].item(),
                 "says": " ".join(words.get(each, "*") for each in found.tested[0][place].tolist()),
                 "labels": [words[each] for each in shown], "plays": titles,
                 "scores": [round(each, 3) for each in given[number].tolist()]}
            )  # fmt: skip
    return rows


def main(
    folder=None, seeds=SEEDS, groundings=500, sizes=None, claims=(400, 600, 600), ties=4000, few=FEW, long=LONG,
    steps=tokens.STEPS, batch=tokens.BATCH, store=None,
):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "signals"
    made = bench.provenance("make runs")
    rows = once(store / "grounding.pt", partial(grounding_rows, groundings))
    rows += once(store / "ties.pt", partial(tie_rows, ties))
    rows += once(store / "shown.pt", partial(shown_rows, steps, batch, max(few)))
    for seed in seeds:
        rows += once(store / f"questions-{seed}.pt", partial(question_rows, seed, sizes or {}))
        rows += once(store / f"claims-{seed}.pt", partial(claim_rows, seed, *claims))
        rows += once(store / f"tokens-{seed}.pt", partial(token_rows, seed, steps, batch, few, long))
    bench.write_measurement((folder or Path(__file__).parent) / f"training-{kind}.json", made, rounded(rows))


if __name__ == "__main__":
    main()
