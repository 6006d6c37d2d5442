"""Rows of GTAN, MVMN, LARSON, knowledge injection for G-XLT and DRL-SRe."""

from effattn_core.coattention.claims import graphs as claims
from effattn_core.papers import Paper, over_seeds


def _votes():
    told = {arm: over_seeds(claims.scores("votes", arm)) for arm in ("sum, 3", "count", "mean, 3")}
    return f"P@1 {told['sum, 3']}; a count of votes {told['count']}; averaged, as softmax does, {told['mean, 3']}"


def _views():
    told = {
        arm: over_seeds(claims.scores("views", arm, "all"))
        for arm in ("three views", "time with log-sum-exp", "time, normalised", "relation")
    }
    return (
        f"AUC of three views {told['three views']} against {told['time with log-sum-exp']} by time with log-sum-exp; "
        f"by time, normalised, {told['time, normalised']}, by relation alone {told['relation']}"
    )


def _trees():
    told = {
        arm: over_seeds(claims.scores("trees", arm, error=0.1, depth=2))
        for arm in ("dependency", "constituency", "both trees")
    }
    return ", ".join(f"{arm} {score}" for arm, score in told.items()) + ", with a tenth of each tree wrong"


def _languages():
    told = {arm: over_seeds(claims.crossed(arm)) for arm in ("no triples", "0% mixed", "100% mixed")}
    return (
        f"across languages {told['100% mixed']}; triples of one language each {told['0% mixed']}; none "
        f"{told['no triples']}; chance .2"
    )


def _slices():
    (ours,), (one,) = claims.scores("slices", "3, 3"), claims.scores("slices", "global, 3")
    return f"MRR {ours:.3f}, of one graph {one:.3f}; not trained".replace(" 0.", " .")


GRAPHS = [
    Paper(
        topic="coattention",
        key="gtan",
        name="GTAN",
        mechanism="answers of a question as a graph; query a question, key past questions, value whether right",
        function="effattn_core.coattention.votes.votes",
        test="coattention/test_votes.py::test_the_sum_over_those_who_agree_is_output_times_exp_log_sum_exp",
        measured=_votes,
        claim=claims.VOTES,
        reconstruction=True,
    ),
    Paper(
        topic="coattention",
        key="mvmn",
        name="MVMN",
        mechanism="query one person's visits, key another's, bias the time between; common friends as a mask",
        function="effattn_core.coattention.views.by_time",
        test="coattention/test_views.py::test_zero_scores_and_a_gaussian_bias_are_nadaraya_and_watson",
        measured=_views,
        claim=claims.VIEWS,
        reconstruction=True,
    ),
    Paper(
        topic="coattention",
        key="larson",
        name="LARSON",
        mechanism="graph attention over two parses of a sentence, as masks and as distances in the bias",
        function="effattn_core.coattention.trees.graph_attention",
        test="coattention/test_trees.py::test_added_scores_rank_neighbours_alike_for_every_query",
        measured=_trees,
        claim=claims.TREES,
        reconstruction=True,
    ),
    Paper(
        topic="coattention",
        key="gxlt",
        name="Knowledge injection for G-XLT",
        mechanism="query head and relation, key entities of any language, one-hot values",
        function="effattn_core.coattention.languages.tail_scores",
        test="coattention/test_languages.py::test_a_turn_of_one_language_changes_no_score_within_it",
        measured=_languages,
        claim=claims.LANGUAGES,
        reconstruction=True,
    ),
    Paper(
        topic="coattention",
        key="drlsre",
        name="DRL-SRe",
        mechanism="a symmetric graph step per slice of time: zero scores, and a factor from log-sum-exp",
        function="effattn_core.coattention.slices.propagated",
        test="coattention/test_slices.py::test_a_symmetric_hop_is_attention_and_its_log_sum_exp",
        measured=_slices,
        claim=claims.SLICES,
    ),
]
