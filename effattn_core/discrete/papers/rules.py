"""The papers on rule nets."""

from effattn_core.discrete.claims.rules import RULE_CLAIMS, tests
from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds, short


def _pair(what, one, other):
    return f"{over_seeds(tests(**one))} against {over_seeds(tests(**other))} {what}"


def _cut():
    some, none = (dict(what="random", share=share) for share in (0.25, 0.0))
    each = ", ".join(short(value) for value in tests(**none))
    return f"{_pair('without, four levels, cut', some, none)}; seed by seed without, {each}"


RULE_PAPERS = [
    Paper(
        topic="discrete",
        key="rrl",
        name="RRL",
        mechanism="A rule is a hard mask over literals, W > ½; forward hard, the soft net's gradient grafted on.",
        function="effattn_core.discrete.nets.RuleNet",
        test="discrete/test_forms.py::test_a_graft_is_hard_to_the_bit_and_has_the_slope_of_the_soft_at_the_hard_input",
        measured=lambda: _pair(
            "by straight-through, digits",
            dict(table="digits", arm="grafted NLAF .9/3/3"),
            dict(table="digits", arm="straight-through"),
        ),
        claim=stated(RULE_CLAIMS, "Grafting trains a hard net better than the straight-through estimator."),
    ),
    Paper(
        topic="discrete",
        key="rrljournal",
        name="RRL, journal",
        mechanism="Sums that are matrix products (NLAF), and a graft for each layer.",
        function="effattn_core.discrete.interface.rules",
        test="discrete/test_forms.py::test_a_weight_at_zero_has_no_slope_by_nlaf_and_one_by_laf",
        measured=lambda: _pair(
            "by one graft, three layers",
            dict(what="depth", layers=3, estimator="grafted"),
            dict(what="depth", layers=3, estimator="single"),
        ),
        claim=stated(RULE_CLAIMS, "Grafting layer by layer helps where grafting once fails, in deeper nets."),
    ),
    Paper(
        topic="discrete",
        key="crs",
        name="CRS",
        mechanism="Soft ANDs and ORs in turn; a random share of the weights is already cut in training.",
        function="effattn_core.discrete.rulesets.rule_set",
        test="discrete/test_forms.py::"
        "test_random_binarisation_of_all_weights_has_no_slope_and_of_none_is_the_plain_net",
        measured=_cut,
        claim=stated(
            RULE_CLAIMS, "Cutting a random share of the weights in training narrows the gap that the last cut opens."
        ),
    ),
]
