"""What is said of linking names, and of a language model against models of tables."""

from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, at_least, at_most, beyond
from effattn_core.recordings import measured
from effattn_core.splits.comparison import mcnemar, paired_bootstrap

RUN = "splits/comparison-cpu"
SURVEY, DEMENTIA = "Shen et al. 2023 (survey of entity linking)", "Wang et al. 2023 (GPT-4 and dementia)"
PLAYS = "14 plays that no training reads, drawn three times; PPMI vectors of 64 numbers"
PATIENTS = "SmolLM2 of 135 million parameters, 61 patients of one split"
CASES = 61  # the least number that .820 and .852 admit: inferred from the decimals, not published


def linked(arm, measure):
    """A measure of a linker's retrieval, a number per seed. measure: "in_batch", "bearers" or a k, for R@k."""
    rows = measured(RUN, what="linking", arm=arm)
    return [row["recall"][str(measure)] if isinstance(measure, int) else row[measure] for row in rows]


def reranked(encoder, measure, arm="own top 16"):
    """A measure of re-ranking what `encoder` retrieved, a number per seed: accuracy, recall or normalised."""
    return [row[measure] for row in measured(RUN, what="reranked", encoder=encoder, arm=arm)]


def counted(measure="bearers"):
    """Of the bearers of a name, found by counts of acts I and II, or by chance, a number per seed."""
    return [row[measure] for row in measured(RUN, what="prior")]


def verdicts(system, seed=0):
    """[test] bool: whether a system was right on each patient of a split."""
    (row,) = measured(RUN, what="system", system=system, seed=seed)
    return torch.tensor([each == "1" for each in row["right"]])


def accuracies(system):
    """A system's accuracy on each recorded split."""
    rows = measured(RUN, what="system", system=system)
    return [fmean(each == "1" for each in row["right"]) for row in rows]


def judged(system, measure):
    """brier, calibration or bias of a system's probabilities on each split."""
    return [row[measure] for row in measured(RUN, what="system", system=system)]


def leaks(measure, by_film):
    """An accuracy on held-out quotes, a number per split: of words, by the film's number, of the majority."""
    return [row[measure] for row in measured(RUN, what="leak", by_film=by_film)]


def _gained():
    both = zip(reranked("bi-encoder", "accuracy"), linked("bi-encoder", 1), strict=True)
    return [after - before for after, before in both]


def _behind():
    """(gap, low, high) of the language model, solved examples before it, below boosting: cases with both verdicts."""
    return paired_bootstrap(verdicts("few-shot"), verdicts("boosting"))


CLAIMS = [
    Claim(
        topic="splits",
        paper=SURVEY,
        where="abstract",
        statement="Deep linkers surpass older ones.",
        measured=Figure(
            lambda: fmean(linked("bi-encoder", "bearers")) - fmean(counted()),
            "more of the shared names told apart than by counting",
        ),
        rule=at_least(0.0),
        conditions=f"{PLAYS}; counts of acts I and II of the same plays are the older method",
    ),
    Claim(
        topic="splits",
        paper=SURVEY,
        where="axis of the algorithm, as it is usually read; the text was not",
        statement="Re-ranking what was retrieved finds more than retrieval alone.",
        measured=Figure(lambda: fmean(_gained()), "gained over the first retrieved"),
        rule=beyond(lambda: max(_gained()) - min(_gained()), at_least(0.0)),
        conditions=f"{PLAYS}; 16 re-ranked",
        read=False,
    ),
    Claim(
        topic="splits",
        paper=DEMENTIA,
        where="abstract; .820 and .852 in notes on the paper",
        statement="A language model does not surpass models of tables.",
        published=-0.032,
        unit="GPT-4 less the best table model, ADNI",
        measured=Figure(lambda: _behind()[0], "SmolLM2 with six examples less boosting"),
        rule=at_most(0.0),
        conditions=PATIENTS,
    ),
    Claim(
        topic="splits",
        paper=DEMENTIA,
        where="the same accuracies, .820 and .852",
        statement="The best model of tables is ahead of GPT-4, p below .05.",
        formula=Figure(lambda: mcnemar(0, round(0.852 * CASES) - round(0.820 * CASES)), "the least possible p"),
        rule=at_most(0.05),
        conditions=f"if {CASES} patients were tested, inferred from the decimals; the paper claims no p",
    ),
]
BY_NAME = {claim.statement: claim for claim in CLAIMS}
