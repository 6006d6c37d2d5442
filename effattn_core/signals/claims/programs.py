"""What the papers say of programs, made-up claims and label words, and how the recorded run measures it."""

from statistics import fmean, stdev

from scipy.stats import f

from effattn_core.ledger import Claim, Figure, at_least, at_most, beyond
from effattn_core.recordings import measured
from effattn_core.signals.claims.seeds import REACH, by_seed, compared

RUN = "signals/training-cpu"
JOINS = ("with", "both", "more")  # skeletons of several arguments, which need not go together
FEW, STEPS = (4, 16, 48), 60  # windows per label, and steps of tuning


def values(what, arm, field, **more):
    """A field of one arm, a number per seed: the mean of its draws."""
    return by_seed(measured(RUN, what=what, arm=arm, **more), field)


def differences(what, arm, over, field, **more):
    """By how much an arm is above another, a number per seed."""
    pair = (values(what, each, field, **more) for each in (arm, over))
    return [one - other for one, other in zip(*pair, strict=True)]


def _grounded():
    """By how much the share of grounded programs with an answer is above that of random ones, the least of joins."""

    def share(name, draw):
        (row,) = measured(RUN, what="grounding", skeleton=name, draw=draw)
        return row["share"]

    return min(share(name, "grounded") - share(name, "at random") for name in JOINS)


def _of_supervised(what, arm, whole):
    """An arm's accuracy in per cent of that of an arm that is told everything."""
    return 100 * fmean(values(what, arm, "accuracy")) / fmean(values(what, whole, "accuracy"))


def _filtered():
    return differences("questions", "executes", "synthetic only", "accuracy")


def _asking():
    alone, kept = (fmean(values("questions", arm, "constrained")) for arm in ("synthetic only", "executes"))
    return (
        f"{PLAYS}; when the executor is asked at decoding too, it is {alone:.3f} without self-training and {kept:.3f} "
        f"with; the abstract's 93 % of a fully supervised model is with annotations, and not judged here; {REACH}"
    )


def _own_verdicts():
    return differences("claims", "own verdicts", "synthetic only", "accuracy")


def _sure_verdicts():
    gained = fmean(differences("claims", "own verdicts above .8", "synthetic only", "accuracy"))
    return (
        "600 claims in users' wordings, three rounds, all verdicts kept as in the released code, three seeds; with "
        f"verdicts above .8 alone the gain is {gained:.3f}; {REACH}"
    )


def labelled(arm, over):
    """By how much label words of an arm are above another arm, a number per seed: the mean over FEW."""
    found = [differences("tokens", arm, over, "accuracy", few=few, steps=STEPS) for few in FEW]
    return [fmean(each) for each in zip(*found, strict=True)]


def _steadier():
    """The spread of label words over six runs, in that of a fresh head: roots of variances, meaned over FEW."""
    spreads = []
    for arm in ("label words", "fresh head"):
        runs = [measured(RUN, what="tokens", arm=arm, few=few, steps=STEPS) for few in FEW]
        spreads.append(fmean(stdev(row["accuracy"] for row in each) ** 2 for each in runs) ** 0.5)
    return spreads[0] / spreads[1]


def _longer():
    (gained,) = [fmean(differences("tokens", "label words", "fresh head", "accuracy", few=48, steps=240))]
    return (
        f"windows of 32 words, six plays, 4, 16 and 48 per label, {STEPS} steps, two draws for each of three "
        f"pre-trainings; with 48 and 240 steps it is {gained:+.3f}; {REACH}"
    )


PLAYS = "ten typed skeletons over the plays, users' wordings by hand, no annotated question, three seeds"
DPT, FLEXKBQA, UCTRST = "Yao et al. 2022 (DPT)", "Li et al. 2023 (FlexKBQA)", "Li et al. 2022b (UCTR-ST)"
CLAIMS: list[Claim] = [
    Claim(
        topic="signals",
        paper=DPT,
        where="abstract",
        statement="Asking a discriminator about label words beats fine-tuning a fresh head.",
        **compared(lambda: labelled("label words", "fresh head"), "accuracy above a fresh head"),
        conditions=_longer,
        read=False,
    ),
    Claim(
        topic="signals",
        paper=DPT,
        where="abstract",
        statement="It is steadier than fine-tuning a fresh head.",
        measured=Figure(_steadier, "of the fresh head's spread over runs"),
        rule=beyond(lambda: 1 - f.ppf(0.025, 5, 5) ** 0.5, at_most(1.0), neutral=1.0),
        conditions="windows of six plays, six runs each; noise: how small a ratio of six runs' spreads is by chance",
        read=False,
    ),
    Claim(
        topic="signals",
        paper=DPT,
        where="released code, where new tokens begin as label words",
        statement="The label tokens need the meaning of their own words.",
        **compared(lambda: labelled("label words", "shuffled words"), "accuracy above shuffled label words"),
        conditions=f"windows of 32 words, six plays, {STEPS} steps, two draws for each of three seeds; {REACH}",
    ),
    Claim(
        topic="signals",
        paper=FLEXKBQA,
        where="released code",
        statement="Programs grounded step by step have an answer.",
        measured=Figure(_grounded, "share with an answer above random groundings, the least of three joins"),
        rule=at_least(0.5),
        conditions="500 draws of each skeleton; where a partial query leaves no value for the next argument, a draw is "
        "abandoned and counts as one without an answer",
    ),
    Claim(
        topic="signals",
        paper=FLEXKBQA,
        where="abstract; the filter is our reconstruction",
        statement="Self-training that keeps what executes improves a student of synthetic questions.",
        **compared(_filtered, "accuracy above synthetic questions only"),
        conditions=_asking,
    ),
    Claim(
        topic="signals",
        paper=UCTRST,
        where="abstract",
        statement="Without annotations it comes near the supervised model.",
        published=90.0,
        unit="% of the supervised model, at least",
        measured=Figure(
            lambda: _of_supervised("claims", "own verdicts", "verdicts given"), "% of a student with 600 verdicts"
        ),
        rule=at_least(90.0),
        conditions="claims over tables of characters, users' wordings by hand, chance is half, three seeds",
    ),
    Claim(
        topic="signals",
        paper=UCTRST,
        where="abstract and released code",
        statement="Self-training on its own verdicts improves a student of synthetic claims.",
        **compared(_own_verdicts, "accuracy above synthetic claims only"),
        conditions=_sure_verdicts,
    ),
]
