"""The ledger: what papers say that this book repeats, beside what is measured here. A claim that fails stays.

Claims live with their topic: each `<topic>/claims.py` has a list CLAIMS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from effattn_core import topic_modules


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published statement. published: its figure, None where it has none; measure: computes ours.

    agrees: a function of (ours) that says whether ours supports the statement; conditions: how ours was measured.
    """

    topic: str
    paper: str
    where: str
    statement: str
    published: float | None
    unit: str
    measure: Callable
    agrees: Callable
    conditions: str


def claims():
    """All claims, topic by topic."""
    return [claim for module in topic_modules("claims") for claim in module.CLAIMS]


def ledger(topic=None):
    """Rows for a table: each claim (of a topic), its published figure, ours, and whether ours agrees."""
    rows = []
    for claim in claims():
        if topic in (None, claim.topic):
            ours = claim.measure()
            rows.append(
                {
                    "statement": claim.statement,
                    "source": f"{claim.paper}, {claim.where}",
                    "published": "no figure" if claim.published is None else f"{claim.published:g} {claim.unit}",
                    "measured here": f"{_shown(ours)} {claim.unit}",
                    "agrees": claim.agrees(ours),
                    "conditions": claim.conditions,
                }
            )
    return rows


def _shown(value):
    """Rounding noise as a bound, so that the page does not depend on a machine's last digit."""
    return "under 1e-12" if abs(value) < 1e-12 else f"{value:.3g}"
