"""The papers on made-up signals, a row each: programs, claims and label words."""

from effattn_core.ledger import stated
from effattn_core.papers import Paper
from effattn_core.signals.claims.programs import CLAIMS, values
from effattn_core.signals.papers.rows import against

PAPERS: list[Paper] = [
    Paper(
        topic="signals", key="dpt", name="DPT",
        mechanism="Labels stand behind the text as tokens; the one that looks least replaced is chosen, in one pass.",
        function="effattn_core.signals.tokens.label_probabilities",
        test="signals/test_verdicts.py::test_the_label_that_looks_least_replaced_is_the_one_with_the_smallest_logit",
        measured=against(
            values, "tokens", "label words", "fresh head",
            "by a fresh head, means of two draws of 16 windows per label", few=16,
        ),
        claim=stated(CLAIMS, "Asking a discriminator about label words beats fine-tuning a fresh head."),
    ),
    Paper(
        topic="signals", key="flexkbqa", name="FlexKBQA",
        mechanism="A pattern with holes is a query that attends, unsoftened, to triples; what is empty teaches nobody.",
        function="effattn_core.signals.programs.execute",
        test="signals/test_programs.py::"
             "test_the_executor_answers_two_hundred_queries_as_a_reading_of_the_plays_does",
        measured=against(values, "questions", "executes", "synthetic only", "by synthetic questions only"),
        claim=stated(CLAIMS, "Self-training that keeps what executes improves a student of synthetic questions."),
    ),
    Paper(
        topic="signals", key="uctrst", name="UCTR-ST",
        mechanism="A verdict's probability sums over the programs that return it: a log_sum_exp over a mask.",
        function="effattn_core.signals.tables.verdict_likelihood",
        test="signals/test_verdicts.py::test_the_likelihood_of_a_verdict_sums_over_programs_that_return_it",
        measured=against(values, "claims", "own verdicts", "verdicts given", "by 600 given verdicts"),
        claim=stated(CLAIMS, "Without annotations it comes near the supervised model."),
    ),
]  # fmt: skip
