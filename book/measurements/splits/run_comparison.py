"""What linking and comparing take too long for a page: linkers on unseen plays, systems on patients, leaked splits.

python book/measurements/splits/run_comparison.py      writes comparison-cpu.json beside this file

Each part is kept in .cache/runs/splits, so that an interrupted command goes on. Rows, by their field `what`:

"linking"    seed; arm: untrained, bi-encoder, name apart, name apart untrained; recall: {k: R@k}; in_batch: accuracy
             among a batch of 64 golds; bearers: accuracy among bearers of the name; mentions, shared: how many.
"reranked"   seed; encoder; arm: own top 16, random negatives; accuracy (end to end), recall (R@16), normalised.
"prior"      seed; bearers: accuracy of counts of acts I and II; chance: of a random bearer.
"system"     seed (of the split), system; right: a text of 0 and 1 per test patient; brier, calibration, bias: of
             probabilities. The language model has none of these three: its scores are no calibrated probabilities.
"model"      arm: "zero-shot", "few-shot"; seed; first: share of answers A in either order; area: under the ROC curve.
"leak"       seed, by_film; words, number, majority: accuracies.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from effattn_core import pretrained, reproducible
from effattn_core.measurements import RUNS, once
from effattn_core.splits import clinical, comparison, linking
from kernels import bench, runtime

SEEDS, SPLITS, READ, LEAKS = (0, 1, 2), tuple(range(20)), (0,), (0, 1, 2, 3, 4)
EVERY_K = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def linking_rows(seed, epochs=6):
    found, rows = linking.world(seed), []
    gold, test = found.gold[found.test], found.test
    prior = linking.among_bearers(linking.prior().expand(len(test), -1), test)
    several = [linking.bearers(linking.mentions()[test[place]].name) for place in prior]
    rows.append(
        {"what": "prior", "seed": seed, "bearers": _among(prior, gold),
         "chance": round(float(np.mean([1 / len(each) for each in several])), 4)}
    )  # fmt: skip
    for name, apart in (("bi-encoder", False), ("name apart", True)):
        untrained = linking.BiEncoder(found.vectors, found.idf, apart)
        model = linking.trained_bi_encoder(found, apart=apart, epochs=epochs, seed=seed)
        for arm, each in (("untrained" if not apart else f"{name}, untrained", untrained), (name, model)):
            scores = each.scores(found, test)
            places = linking.ranks(scores, gold)
            picked = linking.among_bearers(scores, test)
            rows.append(
                {"what": "linking", "seed": seed, "arm": arm, "mentions": len(test), "shared": len(picked),
                 "recall": {str(k): round(linking.recall(places, k), 4) for k in EVERY_K},
                 "in_batch": _in_batch(each, found, seed), "bearers": _among(picked, gold)}
            )  # fmt: skip
        for arm, random in (("own top 16", False), ("random negatives", True)):
            head = linking.trained_cross_encoder(model, found, epochs=epochs, seed=seed, random_negatives=random)
            right = linking.reranked(head, model, found, test) == gold
            rows.append(
                {"what": "reranked", "seed": seed, "encoder": name, "arm": arm,
                 "accuracy": round(right.double().mean().item(), 4),
                 "recall": round(linking.recall(places, linking.TOP), 4),
                 "normalised": round(linking.normalised_accuracy(right, places, linking.TOP), 4)}
            )  # fmt: skip
    return rows


def _among(picked, gold):
    return round(float(np.mean([who == gold[place].item() for place, who in picked.items()])), 4)


@torch.no_grad()
def _in_batch(model, found, seed):
    order = torch.randperm(len(found.test), generator=torch.Generator().manual_seed(seed))
    parts = [part for part in found.test[order].split(64) if len(part) == 64]
    encoded = [
        (model(found.said, part, "mention"), model(found.people, found.gold[part], "entity"), found.gold[part])
        for part in parts
    ]
    return round(float(np.mean([linking.in_batch_accuracy(*each) for each in encoded])), 4)


def system_rows(seed):
    _, test = clinical.split(seed)
    outcome, rows = torch.tensor(clinical.patients()[1][test]), []
    for name, probability in clinical.systems(seed).items():
        rows.append(
            {"what": "system", "seed": seed, "system": name, "right": _text(clinical.verdicts(probability, test)),
             "brier": round(comparison.brier(probability, outcome), 4),
             "calibration": round(comparison.calibration_error(probability, outcome).item(), 4),
             "bias": round(comparison.calibration_bias(probability, draws=500), 4)}
        )  # fmt: skip
    return rows


def _text(right):
    return "".join(str(int(each)) for each in right)


def model_rows(splits):
    """The language model: all patients zero-shot, once; the test patients of some splits with solved examples."""
    from sklearn.metrics import roc_auc_score

    reader, rows, impaired = clinical.Reader(*loaded()), [], clinical.patients()[1]
    zero = reader.scores(range(len(impaired)))

    def answered(arm, seed, scores, truth):
        # In the first order A is control, in the second A is impaired.
        first = [round((scores[0] < 0).double().mean().item(), 4), round((scores[1] > 0).double().mean().item(), 4)]
        area = round(float(roc_auc_score(truth, scores.mean(0))), 4)
        rows.append({"what": "model", "arm": arm, "seed": seed, "first": first, "area": area})

    answered("zero-shot", None, zero, impaired)
    for seed in splits:
        training, test = clinical.split(seed)
        mean = zero.mean(0)
        cut = clinical.best_threshold(mean[training], impaired[training])
        few = reader.scores(test, clinical.drawn_examples(training, seed))
        answered("few-shot", seed, few, impaired[test])
        said = {
            "zero-shot": mean[test] > 0,
            "zero-shot, cut by training": mean[test] > cut,
            "few-shot": few.mean(0) > 0,
        }
        for name, says in said.items():
            right = says.numpy() == impaired[test]
            rows.append({"what": "system", "seed": seed, "system": name, "right": _text(right)})
    return rows


def loaded():
    return pretrained.load("smollm2", context=512, dtype=torch.float32)


def leak_rows(seed):
    found = {by_film: clinical.leaked(seed, by_film) for by_film in (False, True)}
    return [
        {"what": "leak", "seed": seed, "by_film": by_film} | {key: round(value, 4) for key, value in each.items()}
        for by_film, each in found.items()
    ]  # fmt: skip


def main(folder=None, seeds=SEEDS, splits=SPLITS, read=READ, leaks=LEAKS, epochs=6, store=None):
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "splits"
    made, rows = bench.provenance("python book/measurements/splits/run_comparison.py"), []
    for seed in seeds:
        rows += once(store / f"linking-{seed}-{epochs}.pt", partial(linking_rows, seed, epochs))
    for seed in splits:
        rows += once(store / f"systems-{seed}.pt", partial(system_rows, seed))
    for seed in leaks:
        rows += once(store / f"leak-{seed}.pt", partial(leak_rows, seed))
    if read:
        rows += once(store / f"model-{len(read)}.pt", partial(model_rows, read))
    bench.write_measurement((folder or Path(__file__).parent) / f"comparison-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
