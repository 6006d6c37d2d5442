"""What the papers say of example weights, slots, clusters and style, and how the recorded run measures it."""

from statistics import fmean

from numpy import interp

from effattn_core.ledger import Claim, Figure, at_least
from effattn_core.recordings import measured
from effattn_core.signals.claims.seeds import REACH, compared

RUN = "signals/weights-cpu"


def values(what, arm, field, **more):
    """A field of one arm, a number per seed."""
    return [row[field] for row in measured(RUN, what=what, arm=arm, **more)]


def differences(what, arm, over, field, **more):
    """By how much an arm is above another, a number per seed."""
    pair = (values(what, each, field, **more) for each in (arm, over))
    return [one - other for one, other in zip(*pair, strict=True)]


def _against_plain():
    """Weighted accuracy less the better plain baseline's, the least over both data sets of digits and the names."""
    found = []
    for data in ("names", "digits, next", "digits, any"):
        against = (differences("weights", "weighted", over, "accuracy", data=data) for over in ("gold", "both"))
        found.append(min(map(fmean, against)))
    return min(found)


def _held():
    return differences("slots", "soft, three slots", "labelled only", "accuracy")


def _moved():
    return differences("clusters", "adversary, ε 1", "random move, ε 1", "nmi")


def above_table(arm):
    """An arm's share in the style less that of the seed tables where as many words are kept, a number per seed.

    The tables of all strengths make a curve, style over content, with straight lines between them.
    """
    found = []
    for row in measured(RUN, what="style", arm=arm, strength=1.5):
        points = [each for each in measured(RUN, what="style", arm="table") if each["seed"] == row["seed"]]
        kept, judge = zip(*sorted((each["kept"], each["judge"]) for each in points), strict=True)
        if not kept[0] <= row["kept"] <= kept[-1]:
            raise ValueError(
                f"no table keeps {row['kept']:.3f} of the words; they keep {kept[0]:.3f} to {kept[-1]:.3f}."
            )
        found.append(row["judge"] - float(interp(row["kept"], kept, judge)))
    return found


def _weeded():
    both = (above_table(f"back-translated{more}") for more in (", weighted", ""))
    return [one - other for one, other in zip(*both, strict=True)]


def _over_one_slot():
    gained = fmean(differences("slots", "soft, three slots", "soft, one slot", "accuracy"))
    return (
        "new persons of the plays, three labelled mentions each, settings chosen after a look, three seeds; over one "
        f"slot, which loses more, three slots gain {gained:.3f}; {REACH}"
    )


def _over_table():
    plain, weighted = (fmean(above_table(f"back-translated{more}")) for more in ("", ", weighted"))
    return (
        "film quotes, counts in place of networks, films split, three seeds; above the table that keeps as many words "
        f"(between two recorded strengths) it is {plain:+.3f} without weights and {weighted:+.3f} with; {REACH}"
    )


ABSTRACT = "abstract; the rest is our reconstruction"
CLAIMS: list[Claim] = [
    Claim(
        topic="signals",
        paper="Li et al. 2022a (MetaBLINK)",
        where="abstract and released code",
        statement="Weights learned from a few trusted labels help to train on noisy ones.",
        measured=Figure(
            _against_plain, "accuracy above the better of gold only and gold with noisy, the least of three"
        ),
        rule=at_least(0.0),
        conditions="linear models, 50 trusted and 800 noisy labels, names of the plays and MNIST, three seeds",
    ),
    Claim(
        topic="signals",
        paper="STAMO (2208.03877)",
        where=ABSTRACT,
        statement="Slots let self-training gain from mentions without labels, instead of reinforcing its errors.",
        **compared(_held, "accuracy above three labelled mentions alone"),
        conditions=_over_one_slot,
    ),
    Claim(
        topic="signals",
        paper="ARL (1912.03720)",
        where=ABSTRACT,
        statement="An adversary that moves the clusters' representations makes clusters of short texts better.",
        **compared(_moved, "NMI above random moves of the same size"),
        conditions=f"Reuters-8, first ten words, eight clusters, moves of size 1, three seeds; {REACH}",
    ),
    Claim(
        topic="signals",
        paper="Style transfer as unsupervised machine translation (1808.07894)",
        where=ABSTRACT,
        statement="A style classifier that weights made-up pairs helps iterative back-translation.",
        **compared(_weeded, "share in the style by an independent judge, above unweighted, at equal words kept"),
        conditions=_over_table,
    ),
]
