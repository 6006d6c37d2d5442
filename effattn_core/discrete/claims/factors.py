"""Claims on voxel masks, joint decisions by messages, and margins."""

from statistics import fmean

from effattn_core.discrete.claims.rules import difference
from effattn_core.ledger import Claim, Figure, at_least, beyond
from effattn_core.recordings import measured

RUN = "discrete/factors-cpu"
TROI, JOCL, COMM = "Wang et al. 2025 (TROI)", "Liu et al. 2021 (JOCL)", "Duan et al. 2025 (COMM)"
LEARNED, FEW = "learned, sigma 2", 200


def values(field, **wanted):
    """What the run gave for a field, seed by seed."""
    return [row[field] for row in sorted(measured(RUN, **wanted), key=lambda row: row["seed"])]


def against_annotated():
    """A learned and smoothed mask over a hand's region: retrieval, few trials, both at the better rate, the low."""
    told = dict(what="mask", trials=FEW, rate="low rate")
    return difference(values("retrieval", voxels=LEARNED, **told), values("retrieval", voxels="annotated", **told))


def against_unfiltered():
    """A low-pass filter on the scores over none: retrieval, few trials, both at the low (better) rate."""
    told = dict(what="mask", trials=FEW, rate="low rate")
    plain = values("retrieval", voxels="learned, sigma 0", **told)
    return difference(values("retrieval", voxels=LEARNED, **told), plain)


def against_low_rate():
    """A rate rewound over one that goes on where it was: retrieval, few trials, the smoothed mask."""
    told = dict(what="mask", trials=FEW, voxels=LEARNED)
    return difference(values("retrieval", rate="rewound", **told), values("retrieval", rate="low rate", **told))


def against_grouped():
    """Pairs of the joint model over pairs of the separate one by "link, then group": F1."""
    joint, apart = (dict(what="link", model=each) for each in ("joint", "separate"))
    return difference(values("f1", **joint), values("grouped", **apart))


def against_separate_links():
    """Links of the joint model over links decided alone: accuracy."""
    joint, apart = (dict(what="link", model=each) for each in ("joint", "separate"))
    return difference(values("accuracy", **joint), values("accuracy", **apart))


def against_atl(field="f1"):
    """The reconstruction of CMM over ATL, 70 % of the labels missing."""
    told = dict(what="margin", missing=0.7)
    return difference(values(field, loss="CMM (ours)", **told), values(field, loss="ATL", **told))


def _few(voxels):
    """Mean retrieval of a choice of voxels, few trials, low rate."""
    return fmean(values("retrieval", what="mask", trials=FEW, rate="low rate", voxels=voxels))


SHEET = (
    "a sheet of 1,024 simulated voxels, 200 trials, retrieval of one image of 100, three seeds; noise is two standard "
    "errors"
)
NAMES = "names of countries, three seeds, settings chosen after test scores were seen; noise is two standard errors"

FACTOR_CLAIMS = [
    Claim(
        topic="discrete",
        paper=TROI,
        where="abstract: beats MindEye2 with annotated ROI, small-sample setting",
        statement="A learned mask of voxels does better than an annotated region with few trials.",
        measured=Figure(lambda: against_annotated()[0], "retrieval more"),
        rule=beyond(lambda: against_annotated()[1], at_least(0.0)),
        conditions=lambda: (
            f"reconstruction from the abstract; {SHEET}; its size is told, the region is a blob; not the voxels alone: "
            "weights of the learned mask come from a stage one with a penalty, those of a region from one without, and "
            f"the true region itself has {_few('true region'):.3f} against {_few('annotated'):.3f}; without the filter "
            f"the mask has {_few('learned, sigma 0'):.3f}"
        ),
    ),
    Claim(
        topic="discrete",
        paper=TROI,
        where="abstract: sparse mask training and low-pass filtering",
        statement="A low-pass filter helps to choose the voxels.",
        measured=Figure(lambda: against_unfiltered()[0], "retrieval more"),
        rule=beyond(lambda: against_unfiltered()[1], at_least(0.0)),
        conditions=f"reconstruction from the abstract; {SHEET}; the region is a blob, which a filter assumes",
    ),
    Claim(
        topic="discrete",
        paper=TROI,
        where="abstract: learning rate rewinding",
        statement="Rewinding the learning rate helps the input layer of the voxels that are kept.",
        measured=Figure(lambda: against_low_rate()[0], "retrieval more"),
        rule=beyond(lambda: against_low_rate()[1], at_least(0.0)),
        conditions=f"reconstruction from the abstract; {SHEET}",
    ),
    Claim(
        topic="discrete",
        paper=JOCL,
        where="abstract: best average F1 of canonicalisation",
        statement="Grouping and linking names at once groups better.",
        measured=Figure(lambda: against_grouped()[0], "F1 more than link, then group"),
        rule=beyond(lambda: against_grouped()[1], at_least(0.0)),
        conditions=f"reconstruction from the abstract; {NAMES}; the messages had not settled after 200 sweeps",
    ),
    Claim(
        topic="discrete",
        paper=JOCL,
        where="abstract: best accuracy of linking",
        statement="Grouping and linking names at once links better.",
        measured=Figure(lambda: against_separate_links()[0], "accuracy more than links alone"),
        rule=beyond(lambda: against_separate_links()[1], at_least(0.0)),
        conditions=f"reconstruction from the abstract; {NAMES}; the messages had not settled after 200 sweeps",
    ),
    Claim(
        topic="discrete",
        paper=COMM,
        where="abstract: over 10 % on low-quality training data",
        statement="Concentrated margins keep F1 up if labels are missing.",
        measured=Figure(lambda: against_atl()[0], "F1 more than ATL, 70 % of labels missing"),
        rule=beyond(lambda: against_atl()[1], at_least(0.1)),
        conditions=lambda: (
            "our loss after the abstract, pairs of digits, linear model, three seeds; at the best threshold the two "
            f"differ by {against_atl('best')[0]:+.4f} only"
        ),
    ),
]
