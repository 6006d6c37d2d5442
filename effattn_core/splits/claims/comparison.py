"""What is said of linking names, and of a language model against models of tables."""

from statistics import fmean

import torch

from effattn_core.ledger import Claim, Figure, against, at_least, at_most, beyond, shown
from effattn_core.recordings import measured
from effattn_core.splits.comparison import disagreements, mcnemar, paired_bootstrap

RUN = "splits/comparison-cpu"
SURVEY, DEMENTIA = "Shen et al. 2023 (survey of entity linking)", "Wang et al. 2023 (GPT-4 and dementia)"
PLAYS = "14 plays that no training reads, drawn three times; PPMI vectors of 64 numbers"
PATIENTS = "SmolLM2 of 135 million parameters, 61 patients of one split"
QUESTION = "Our question"  # what no paper states, and a reader of these papers may take for said
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


def gained(encoder):
    """What re-ranking adds to the first that `encoder` retrieves, a number per seed."""
    both = zip(reranked(encoder, "accuracy"), linked(encoder, 1), strict=True)
    return [after - before for after, before in both]


def _behind(system):
    """How far a system of one split is above boosting, on the same cases."""
    return paired_bootstrap(verdicts(system), verdicts("boosting"))[0]


def _p(system):
    """McNemar's p of a system of one split against boosting."""
    return mcnemar(*disagreements(verdicts(system), verdicts("boosting")))


def _least_p(cases):
    """The least p that .820 and .852 of so many cases can have: the better one alone right where they disagree."""
    return mcnemar(0, round(0.852 * cases) - round(0.820 * cases))


def _range(values):
    return max(values) - min(values)


def _by_size(numbers):
    """What hides the answer is the size, not published: those that fit lie on both sides of .05. No noise to tell."""
    return beyond(lambda: _least_p(CASES) - _least_p(4 * CASES), at_most(0.05), neutral=0.05)(numbers)


CLAIMS = [
    Claim(
        topic="splits",
        paper=QUESTION,
        where="after the abstract of the survey of linkers, which says that deep ones surpass older ones",
        statement="A small trained encoder tells persons of one name apart better than counts do.",
        measured=Figure(
            lambda: fmean(linked("bi-encoder", "bearers")) - fmean(counted()),
            "more of the shared names told apart than by counting",
        ),
        rule=at_least(0.0),
        conditions=f"{PLAYS}; counts of acts I and II; neither a deep linker nor a usual data set was tried",
    ),
    Claim(
        topic="splits",
        paper=SURVEY,
        where="axis of the algorithm, as it is usually read; the text was not",
        statement="Re-ranking what was retrieved finds more than retrieval alone.",
        measured=Figure(lambda: fmean(gained("bi-encoder")), "gained over the first retrieved"),
        rule=beyond(lambda: _range(gained("bi-encoder")), at_least(0.0)),
        conditions=f"{PLAYS}; 16 re-ranked, of an encoder whose first is seldom right",
        read=False,
    ),
    Claim(
        topic="splits",
        paper=SURVEY,
        where="the same axis",
        statement="Re-ranking finds more than retrieval alone where the retriever is strong too.",
        measured=Figure(lambda: fmean(gained("name apart")), "gained over the first retrieved"),
        rule=beyond(lambda: _range(gained("name apart")), at_least(0.0)),
        conditions=lambda: (
            f"{PLAYS}; 16 re-ranked, of the encoder that keeps the name apart; the three gains, of "
            f"{shown(min(gained('name apart')))} to {shown(max(gained('name apart')))}, are further "
            "apart than their mean is from 0"
        ),
        read=False,
    ),
    Claim(
        topic="splits",
        paper=DEMENTIA,
        where="abstract; .820 and .852 in notes on the paper",
        read=False,
        statement="A language model does not surpass models of tables.",
        published=-0.032,
        unit="GPT-4 less the best table model, ADNI",
        measured=Figure(lambda: _behind("zero-shot"), "SmolLM2 without examples less boosting"),
        rule=against(lambda: _behind("majority"), at_most(0.0)),
        conditions=lambda: (
            f"{PATIENTS}: stands for no larger model; p is {shown(_p('zero-shot'))}, and the majority, which reads "
            f"nothing, is as far behind; with six examples {shown(_behind('few-shot'))}, p {shown(_p('few-shot'))}: "
            "the position of an answer, no diagnosis"
        ),
    ),
    Claim(
        topic="splits",
        paper=QUESTION,
        where="on .820 and .852 of the comparison, which claims no p",
        statement="The best model of tables is ahead of GPT-4 with p below .05.",
        formula=Figure(lambda: _least_p(CASES), f"the least possible p at {CASES} patients"),
        rule=_by_size,
        conditions=lambda: (
            f"{CASES} is the least size that fits the decimals; {4 * CASES} fit too, and there the least possible p is "
            f"{shown(_least_p(4 * CASES))}: the question stays open"
        ),
    ),
]
