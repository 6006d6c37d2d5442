"""Data that is split, knowledge that moves without its data, and comparisons that could come out either way."""

from effattn_core.splits.comparison import mcnemar, sizes_that_fit, wilson
from effattn_core.splits.federated import averaged, controlled, oracle, personal
from effattn_core.splits.linking import in_batch_loss, recall
from effattn_core.splits.transfer import information, pseudo_labels

__all__ = [
    "averaged",
    "controlled",
    "in_batch_loss",
    "information",
    "mcnemar",
    "oracle",
    "personal",
    "pseudo_labels",
    "recall",
    "sizes_that_fit",
    "wilson",
]
