"""Rows of Dual-MFA, R-VQA, MGH with ATA pooling and KCF-PLM."""

from effattn_core.coattention.claims.fusion import FUSION as CLAIMS
from effattn_core.coattention.claims.fusion import both_kinds, of
from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds

_PLACE, _TESTS = "effattn_core.coattention", "coattention/test_fusion.py"


def _dual():
    alone = over_seeds(both_kinds("grid only")), over_seeds(both_kinds("boxes only"))
    return f"accuracy {over_seeds(both_kinds('dual'))}; grid alone {alone[0]}, boxes alone {alone[1]}"


def _facts():
    found = {arm: over_seeds(of("accuracy", what="facts", arm=arm, noise=0.2)) for arm in ("sequential", "parallel")}
    return f"a fifth of facts' elements wrong: sequential {found['sequential']}, parallel {found['parallel']}"


def _pooling():
    found = {arm: over_seeds(of("rank", what="pooling", arm=arm, causal=True)) for arm in ("sum", "mean", "last")}
    return f"reciprocal rank, causal: column sums {found['sum']}, mean {found['mean']}, last token {found['last']}"


def _aspects():
    arms = ("guided + graph", "mean of aspects")
    found = [over_seeds(of("error", what="aspects", arm=arm, shown=4)) for arm in arms]
    return f"error {found[0]}; unguided, no graph {found[1]}"


FUSION = [
    Paper(
        topic="coattention",
        key="dualmfa",
        name="Dual-MFA",
        mechanism="A question asks a grid and boxes by normalised products; each branch hears of the other.",
        function=f"{_PLACE}.fusion.fused",
        test=f"{_TESTS}::test_two_products_give_the_scores_of_the_product_formed_in_full",
        measured=_dual,
        claim=stated(CLAIMS, "Free-form regions and detection boxes answer more together than either alone."),
    ),
    Paper(
        topic="coattention",
        key="rvqa",
        name="R-VQA",
        mechanism="Two hops: the question asks regions, and what it has seen asks facts.",
        function=f"{_PLACE}.fusion.two_hops",
        test=f"{_TESTS}::test_two_hops_are_what_their_equations_say",
        measured=_facts,
        claim=stated(CLAIMS, "Facts are to be asked after the picture has been looked at: in sequence."),
    ),
    Paper(
        topic="coattention",
        key="mgh",
        name="MGH and ATA pooling",
        mechanism="A sentence's vector is its states, weighted by the attention that each gets.",
        function=f"{_PLACE}.pooling.pooled",
        test=f"{_TESTS}::test_a_sum_of_columns_is_the_mean_after_one_more_hop_and_the_logarithm_is_not",
        measured=_pooling,
        claim=stated(CLAIMS, "Weighting states by the attention that they get is better than their mean."),
        reconstruction=True,
    ),
    Paper(
        topic="coattention",
        key="kcfplm",
        name="KCF-PLM",
        mechanism="A user asks the aspects of an item; a graph fills those that no review mentions.",
        function=f"{_PLACE}.aspects.guided",
        test=f"{_TESTS}::test_an_item_of_which_nothing_is_shown_gives_zero_and_a_graph_fills_it",
        measured=_aspects,
        claim=stated(
            CLAIMS, "Attention guided by the user and a knowledge graph predict ratings better than unguided aspects."
        ),
        reconstruction=True,
    ),
]
