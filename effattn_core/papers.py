"""Twenty-six papers on other fields, a row each: the mechanism, where it lives in this library, and how it fared.

Rows live with their topic: `<topic>/papers.py` has a list PAPERS. A verdict is that of a claim of the ledger, and what
was measured comes from a recording, so neither can be typed in.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from effattn_core import topic_modules
from effattn_core.ledger import Claim


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper. key: its entry in the bibliography; mechanism: what it does, in the words of attention where it can.

    function: what runs it, by its full name; test: the test of its identity, FILE::NAME from the folder `tests`.
    measured: what the miniature gave over its seeds, as a text made from the recording; claim: the entry of the ledger
    that judges it. reconstruction: whether the mechanism was built from the abstract, for want of formulas or code.
    """

    topic: str
    key: str
    name: str
    mechanism: str
    function: str
    test: str
    measured: Callable[[], str]
    claim: Claim
    reconstruction: bool = False


def papers():
    """All rows, topic by topic."""
    return [paper for module in topic_modules("papers") for paper in module.PAPERS]


def rows(topic):
    """Rows for a table: the papers of a topic."""
    return [
        {
            "paper and mechanism": f"*{paper.name}*{' (reconstruction)' * paper.reconstruction}. "
            f"{paper.mechanism[0].upper()}{paper.mechanism[1:].removesuffix('.')}.",
            "measured": paper.measured(),
            "verdict": paper.claim.verdict,
            "runs in": f"`{paper.function.removeprefix('effattn_core.')}`, held by `{paper.test.partition('::')[2]}`",
        }
        for paper in papers()
        if paper.topic == topic
    ]


def over_seeds(values):
    """The mean of some runs and the standard deviation of them, as words: .571 ± .015."""
    values = list(values)
    mean = sum(values) / len(values)
    spread = (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5
    return " ± ".join(short(each) if abs(each) < 1 else f"{each:.3g}" for each in (mean, spread))


def short(value, sign=""):
    """Three decimals, without a zero before the point: .571. sign: "+" to show it always."""
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.3f}")
