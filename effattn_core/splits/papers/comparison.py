"""Rows of the two papers: the survey of entity linking, and GPT-4 among models of tables."""

from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds
from effattn_core.splits.claims.comparison import CLAIMS, accuracies, linked, reranked

PAPERS = [
    Paper(
        topic="splits",
        key="elsurvey",
        name="Entity linking (survey)",
        mechanism="a mention queries the keys of all entities; a re-ranker reads the best k: attention without values",
        function="effattn_core.splits.linking.in_batch_loss",
        test="splits/test_linking.py::test_end_to_end_accuracy_is_recall_times_normalised_accuracy",
        measured=lambda: (
            f"R@1 {over_seeds(linked('bi-encoder', 1))}, R@16 {over_seeds(linked('bi-encoder', 16))}, "
            f"re-ranked {over_seeds(reranked('bi-encoder', 'accuracy'))}"
        ),
        claim=stated(CLAIMS, "Re-ranking what was retrieved finds more than retrieval alone."),
        reconstruction=True,
    ),
    Paper(
        topic="splits",
        key="dementia",
        name="GPT-4 and dementia",
        mechanism="a patient as a multiple-choice prompt, beside models of tables: not attention, but a comparison",
        function="effattn_core.splits.comparison.mcnemar",
        test="splits/test_comparison.py::test_mcnemar_is_the_two_sided_binomial_test_of_the_disagreements",
        measured=lambda: (
            f"boosting {over_seeds(accuracies('boosting'))} over 20 splits; SmolLM2, one split: "
            f"{accuracies('zero-shot')[0]:.3f}, with examples {accuracies('few-shot')[0]:.3f}"
        ),
        claim=stated(CLAIMS, "A language model does not surpass models of tables."),
    ),
]
