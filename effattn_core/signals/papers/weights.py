"""The papers on made-up signals, a row each: weights."""

from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds
from effattn_core.signals.claims.weights import CLAIMS, above_table, values
from effattn_core.signals.papers.rows import against


def _weighted():
    weighted, gold, both = (
        over_seeds(values("weights", arm, "accuracy", data="digits, next")) for arm in ("weighted", "gold", "both")
    )
    return f"{weighted} against {gold} by trusted labels only and {both} by all alike, noisy digits"


def _styled():
    weighted, plain = (over_seeds(above_table(f"back-translated{more}")) for more in (", weighted", ""))
    return (
        f"share in the style above a table of words that keeps as many: {weighted} against {plain} by unweighted pairs"
    )


PAPERS: list[Paper] = [
    Paper(
        topic="signals",
        key="metablink",
        name="MetaBLINK",
        mechanism="An example's weight: its gradient as key, the trusted examples' as query, a rectifier for softmax.",
        function="effattn_core.signals.weights.weights",
        test="signals/test_weights.py::test_the_derivative_by_an_examples_weight_is_minus_the_rate_times_the_alignment",
        measured=_weighted,
        claim=stated(CLAIMS, "Weights learned from a few trusted labels help to train on noisy ones."),
    ),
    Paper(
        topic="signals",
        key="stamo",
        name="STAMO",
        mechanism="Soft labels are attention from mentions to entities; slots average where their features go.",
        function="effattn_core.signals.slots.self_trained",
        test="signals/test_slots.py::test_soft_em_never_lowers_the_likelihood",
        measured=against(values, "slots", "soft, three slots", "labelled only", "by labelled mentions only"),
        claim=stated(
            CLAIMS, "Slots let self-training gain from mentions without labels, instead of reinforcing its errors."
        ),
        reconstruction=True,
    ),
    Paper(
        topic="signals",
        key="arl",
        name="ARL",
        mechanism="Clusters are queries over a text's words; an adversary moves the clusters along their gradient.",
        function="effattn_core.signals.clusters.against_adversary",
        test="signals/test_clusters.py::test_without_a_move_the_adversary_only_scales_the_loss",
        measured=against(
            values, "clusters", "adversary, ε 1", "random move, ε 1", "by random moves of the same size, NMI", "nmi"
        ),
        claim=stated(
            CLAIMS, "An adversary that moves the clusters' representations makes clusters of short texts better."
        ),
        reconstruction=True,
    ),
    Paper(
        topic="signals",
        key="stylemt",
        name="Style transfer as unsupervised MT",
        mechanism="A word attends to its neighbours, style as bias; back-translation makes pairs whose output is real.",
        function="effattn_core.signals.translation.back_translated",
        test="signals/test_translation.py::test_viterbi_finds_the_best_of_all_outputs",
        measured=_styled,
        claim=stated(CLAIMS, "A style classifier that weights made-up pairs helps iterative back-translation."),
        reconstruction=True,
    ),
]
