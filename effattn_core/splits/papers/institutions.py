"""Rows of the two papers: federated learning on heart recordings, and transfer without data."""

from effattn_core.ledger import stated
from effattn_core.papers import Paper, over_seeds
from effattn_core.splits.claims.institutions import CLAIMS, difference, scores, students

PAPERS = [
    Paper(
        topic="splits",
        key="fedcvd",
        name="FedCVD",
        mechanism="data stays at its institutions; models are averaged with weights set beforehand: not attention",
        function="effattn_core.splits.federated.controlled",
        test="splits/test_federated.py::test_scaffold_leaves_fedavg_in_the_second_round_and_the_released_one_never_does",
        measured=lambda: (
            "three rarest classes: Scaffold minus FedAvg with equal weights, "
            f"{over_seeds(difference('Scaffold', 'FedAvg, equal', 'tail'))}"
        ),
        claim=stated(CLAIMS, "Control variates raise the accuracy on rare classes."),
    ),
    Paper(
        topic="splits",
        key="datafree",
        name="Data-free transfer (survey)",
        mechanism="a teacher's confidence and statistics stand in for data; pseudo-labels: hard attention over classes",
        function="effattn_core.splits.transfer.information",
        test="splits/test_transfer.py::test_without_diversity_a_collapsed_answer_is_as_good_as_any_can_be",
        measured=lambda: (
            f"adapted {over_seeds(scores('entropy and diversity'))} from {over_seeds(scores('source alone'))}; "
            f"student of matched images {over_seeds(students('generator', balance=5.0, matching=1.0))}"
        ),
        claim=stated(CLAIMS, "Adapting to an unlabelled target raises the accuracy there."),
        reconstruction=True,
    ),
]
