"""The papers on voxel masks, joint decisions and margins. No formula of them was readable: all are reconstructions."""

from effattn_core.discrete.claims.factors import FACTOR_CLAIMS, FEW, LEARNED, values
from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds


def _mask(voxels):
    return over_seeds(values("retrieval", what="mask", trials=FEW, rate="low rate", voxels=voxels))


def _pairs(field, model):
    return over_seeds(values(field, what="link", model=model))


def _labels(loss):
    return over_seeds(values("f1", what="margin", missing=0.7, loss=loss))


FACTOR_PAPERS = [
    Paper(
        topic="discrete",
        key="troi",
        name="TROI",
        mechanism="A learned mask of voxels, smoothed on their sheet and then cut, as for channels of a key.",
        function="effattn_core.discrete.masks.chosen",
        test="discrete/test_masks.py::test_scores_are_filtered_before_the_threshold",
        measured=lambda: f"{_mask(LEARNED)} against {_mask('annotated')} by an annotated region, retrieval",
        claim=stated(FACTOR_CLAIMS, "A learned mask of voxels does better than an annotated region with few trials."),
        reconstruction=True,
    ),
    Paper(
        topic="discrete",
        key="jocl",
        name="JOCL",
        mechanism="Groups and links of names in one factor graph; a message is a log-sum-exp with a table as bias.",
        function="effattn_core.discrete.linking.believed",
        test="discrete/test_linking.py::test_messages_over_tensors_are_those_of_the_factor_graph",
        measured=lambda: f"{_pairs('f1', 'joint')} against {_pairs('grouped', 'separate')} by link, then group, F1",
        claim=stated(FACTOR_CLAIMS, "Grouping and linking names at once groups better."),
        reconstruction=True,
    ),
    Paper(
        topic="discrete",
        key="comm",
        name="COMM",
        mechanism="Scores against a learned threshold, margins weighted by rarity and difficulty.",
        function="effattn_core.discrete.margins.concentrated",
        test="discrete/test_margins.py::test_breakdown_points_are_the_closed_forms",
        measured=lambda: f"{_labels('CMM (ours)')} against {_labels('ATL')} by ATL, 70 % of labels missing, F1",
        claim=stated(FACTOR_CLAIMS, "Concentrated margins keep F1 up if labels are missing."),
        reconstruction=True,
    ),
]
