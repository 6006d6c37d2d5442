"""The miniatures of attention over graphs: votes, views, trees, languages and slices, each over its seeds.

python book/measurements/coattention/run_graphs.py      writes graphs-cpu.json beside this file

Each mechanism and seed is a part of its own: an interrupted command goes on after the last that is finished, in
.cache/runs/coattention-graphs. Rows have `mechanism`, `arm`, `seed` and, by the mechanism:

"votes"      score: P@1 among questions that someone answers rightly. arm "sum, 3": votes weighed by competence, τ 3;
             "mean, 3": the mean of those who agree; "alone, 3": the own competence only; "count": every vote 1.
"views"      all, new: AUC of who answers whom in later acts, over all pairs and those that did not before; seed: of
             which plays are held out. A row of arm "pairs" says how many: pairs, linked, new.
"trees"      error: of the parser; depth: of the clauses in the test (trained at 2); score: right verbs; verbs: mean.
"languages"  score: a dict, "1 → 2" for a question in language 1 and candidates in 2; nearest: of each digit of 2, the
             digit of 1; likeness: all cosines, 10 × 10; share: of mixed triples, None without triples.
"slices"     decay, hops, score: MRR of whom a speaker answers next, se, queries: no seed, nothing is drawn.
"gaps"       log_rate, slope, nll, exponential: over all gaps; and per speaker of many speeches: slopes, masses.
"""

import math
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

import torch

from effattn_core import reproducible
from effattn_core.coattention import languages, slices, trees, views, votes
from effattn_core.measurements import RUNS, once, rounded
from effattn_core.plays import plays
from kernels import bench, runtime

SEEDS = (0, 1, 2)
WIDTHS = (1.0, 2.0, 3.0, 4.0, 6.0, 10.0, math.inf)
ERRORS, DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.5), (2, 5)
SHARES = (None, 0.0, 0.02, 0.1, 0.5, 1.0)
DECAYS, HOPS = ("global", 0, 0.5, 1, 2, 3, 6, math.inf), (1, 3)


def row(mechanism, arm, seed, **told):
    return {"mechanism": mechanism, "arm": arm, "seed": seed, **told}


def votes_rows(seed, questions):
    found = votes.methods(votes.crowd(seed, questions), WIDTHS)
    return [row("votes", arm, seed, score=rounded(score)) for arm, score in found.items()]


def views_rows(seeds, count, held):
    found, rows = views.all_pairs(count), []
    told = dict(linked=sum(pair.linked for pair in found), new=sum(pair.linked and pair.new for pair in found))
    rows.append(row("views", "pairs", None, pairs=len(found), **told))
    for seed in seeds:
        for arm, names in views.ARMS.items():
            every, new = map(rounded, views.areas(found, names, seed, held))
            rows.append(row("views", arm, seed, all=every, new=new))
    return rows


def trees_rows(seed, sentences):
    rows = []
    for error in ERRORS:
        training = trees.asked(sentences, 2 * seed, 2, error)
        for depth in DEPTHS:
            test = trees.asked(sentences, 2 * seed + 1, depth, error)
            verbs = rounded(test[1].sum(1).double().mean().item())
            for arm, columns in trees.COLUMNS.items():
                score = rounded(trees.accuracy(*test, trees.fitted(*training, columns), columns))
                rows.append(row("trees", arm, seed, error=error, depth=depth, score=score, verbs=verbs))
    return rows


def languages_rows(seed, share, steps):
    model = languages.trained(seed, share, steps)
    scores = {
        f"{head + 1} → {tail + 1}": rounded(languages.accuracy(model, head, tail)) for head, tail in languages.PAIRS
    }
    likeness = languages.likeness(model)
    arm = "no triples" if share is None else f"{share:.0%} mixed"
    cosines = [[round(each, 2) for each in line] for line in likeness.tolist()]
    nearest = likeness.argmax(1).tolist()
    return [row("languages", arm, seed, share=share, score=scores, nearest=nearest, likeness=cosines)]


def slices_rows(count):
    found, rows = [slices.sliced(play) for play in plays()[:count]], []
    for decay in DECAYS:
        for hops in HOPS:
            told = [each for play in found for each in slices.ranks(play, decay, hops)]
            name = str(decay)
            error = rounded(stdev(told) / len(told) ** 0.5)
            rows.append(
                row("slices", f"{name}, {hops}", None, decay=name, hops=hops, score=rounded(fmean(told)), se=error,
                    queries=len(told))
            )  # fmt: skip
    return rows


def gaps_rows(count, least):
    def padded(lists):
        tensors = [torch.tensor(each, dtype=torch.float64) for each in lists]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=math.nan)

    every = torch.tensor([each for told in slices.all_gaps(count) for each in told], dtype=torch.float64)
    rate, slope = (each.item() for each in slices.fitted(every[None]))
    log_rate, log_slope = torch.tensor(rate).double(), torch.tensor(slope).double()
    loss = -slices.log_density(every, log_rate, log_slope).mean().item()
    many = padded(slices.all_gaps(count, least))
    rates, slopes = (each.tolist() for each in slices.fitted(many))
    told = dict(
        gaps=len(every), log_rate=rounded(rate), slope=rounded(slope), nll=rounded(loss),
        exponential=rounded(1 + math.log(every.mean().item())), mass=rounded(slices.mass(rate, slope)),
        slopes=list(map(rounded, slopes)),
        masses=[rounded(slices.mass(*pair)) for pair in zip(rates, slopes, strict=True)],
    )  # fmt: skip
    return [row("gaps", "all", None, **told)]


def main(folder=None, seeds=SEEDS, questions=1500, plays=38, sliced=19, held=12, sentences=250, steps=300,
         shares=SHARES, least=60, store=None):  # fmt: skip
    """Settings with defaults, so that a test can run it dry in seconds; stored rows are not made again."""
    reproducible(0, threads=1)
    kind, store = ("gpu" if runtime.mode == "gpu" else "cpu"), store or RUNS / "coattention-graphs"
    made, rows = bench.provenance("make runs"), []
    for seed in seeds:
        rows += once(store / f"votes-{seed}.pt", partial(votes_rows, seed, questions))
        rows += once(store / f"trees-{seed}.pt", partial(trees_rows, seed, sentences))
        for share in shares:
            rows += once(store / f"languages-{seed}-{share}.pt", partial(languages_rows, seed, share, steps))
    rows += once(store / "views.pt", partial(views_rows, seeds, plays, held))
    rows += once(store / "slices.pt", partial(slices_rows, sliced))
    rows += once(store / "gaps.pt", partial(gaps_rows, plays, least))
    bench.write_measurement((folder or Path(__file__).parent) / f"graphs-{kind}.json", made, rows)


if __name__ == "__main__":
    main()
