"""The ledger: every claim has a source and conditions, is computed, and its verdict follows from the numbers."""

import dataclasses
import re

import pytest
from support.house import ROOT

from effattn_core import ledger as house
from effattn_core.attention.claims import CLAIMS
from effattn_core.ledger import (
    BOUND,
    EXACT,
    FACTOR,
    FAILED,
    SAME,
    UNSEEN,
    Claim,
    Figure,
    Numbers,
    against,
    at_least,
    at_most,
    beyond,
    exact,
    upper_bound,
    within,
)
from figures.theme import table


@pytest.fixture(scope="module")
def rows():
    """The whole ledger, computed once."""
    return house.ledger()


@pytest.mark.parametrize(
    ("rule", "published", "ours", "verdict"),
    [
        (exact(), None, 1e-13, EXACT),
        (exact(), None, 1e-9, FAILED),
        (exact(0.5), 18, 18.4, EXACT),
        (exact(0.5), 18, 19.0, FAILED),
        (at_least(1.0), None, 1.1, SAME),
        (at_least(1.0), 1.3, 0.9, FAILED),
        (at_most(1.0), None, 0.9, SAME),
        (at_most(1.0), None, 1.1, FAILED),
        (within(2), 3.4, 3.1, FACTOR),
        (within(2), 3.4, 7.0, FAILED),
        (within(2, neutral=50), 85, 100, FACTOR),
        (within(2, neutral=50), 85, 48, FAILED),  # half as much, and on the other side of no effect
        (within(2, whole=100), 98, 98.5, FACTOR),
        (within(2, whole=100), 80, 41, FAILED),  # half the share, and three times what is missing
        (beyond(lambda: 0.2, at_least(1.0), neutral=1.0), None, 1.1, UNSEEN),
        (beyond(lambda: 0.2, at_least(1.0), neutral=1.0), None, 1.5, SAME),
        (beyond(lambda: 0.2, at_least(0.5)), 0.9, 0.1, FAILED),  # noise does not reach what was published
        (beyond(lambda: 0.9, at_least(0.5)), 0.9, 0.1, UNSEEN),
        (against(lambda: 0.5, at_most(1.0)), None, 0.1, UNSEEN),
        (against(lambda: 5.0, at_most(1.0)), None, 0.1, SAME),
        (against(lambda: 5.0, at_most(1.0)), None, 1.1, FAILED),
    ],
)
def test_a_rule_gives_each_of_its_verdicts(rule, published, ours, verdict):
    assert rule(Numbers(published, None, ours)) == verdict
    assert rule(Numbers(published, ours, None)) == verdict  # a formula is judged where nothing was measured
    assert rule(Numbers(published, None, float("nan"))) in (FAILED, UNSEEN)


def test_a_bound_judges_the_formula_beside_a_measurement():
    assert upper_bound()(Numbers(2.4, 5.2, 1.5)) == BOUND
    assert upper_bound()(Numbers(2.4, 2.3, 9.0)) == FAILED


def test_every_claim_is_computed_under_stated_conditions(rows):
    assert len(rows) == len(house.claims()) > len(house.ledger("attention")) > 0
    assert all(row["verdict"] in house.MEANING and row["conditions of ours"] for row in rows)
    assert all(row["by formula"] or row["measured"] for row in rows)
    assert house.ledger("nothing") == []
    counts = house.verdicts(rows)
    assert sum(row["claims"] for row in counts) == len(rows) and all(row["claims"] for row in counts)


@pytest.mark.parametrize(
    "claim", [claim for claim in house.claims() if claim.measured], ids=lambda claim: claim.statement
)
def test_a_spoiled_measurement_changes_the_verdict(claim):
    spoils = [
        dataclasses.replace(claim, measured=Figure(lambda value=value: value, "spoiled")).verdict
        for value in (0.0, 1e-3, 1e3, -1e3, claim.published or 0.0)
    ]
    judged_by_formula = claim.verdict == BOUND
    assert judged_by_formula or len({claim.verdict, *spoils}) > 1


@pytest.mark.parametrize(
    "claim",
    [claim for claim in house.claims() if not claim.measured or claim.verdict == BOUND],
    ids=lambda claim: claim.statement,
)
def test_a_spoiled_formula_changes_the_verdict(claim):
    spoils = [
        dataclasses.replace(claim, formula=Figure(lambda value=value: value, "spoiled")).verdict
        for value in (0.0, 1e3, -1e3, claim.published or 0.0)
    ]
    assert len({claim.verdict, *spoils}) > 1


def test_published_figures_keep_their_own_unit_and_say_where():
    """Times stay times beside our bytes: a published speed is never printed as operations or bytes."""
    for claim in house.claims():
        assert claim.paper and claim.where and not re.search("we recall|not read", claim.where)
        if claim.published is not None:
            assert claim.unit and not re.search("bytes|operations|nats per letter", claim.unit)
    speeds = [claim for claim in house.claims() if claim.unit == "times faster"]
    assert len(speeds) >= 5


def test_a_place_that_was_not_read_is_marked(rows):
    marked = [row for row in rows if house.UNVERIFIED in row["statement"]]
    assert house.unverified(rows) == len(marked) == sum(not claim.read for claim in house.claims()) > 0
    assert not any("summaries" in claim.where and claim.read for claim in house.claims())


def test_no_page_repeats_a_paper_from_memory():
    for path in (*ROOT.glob("book/**/*.md"), *ROOT.glob("effattn_core/*/claims.py")):
        found = re.search(r"as\s+we\s+recall|have\s+not\s+read", path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} repeats a paper from memory: {found[0]}"


def test_a_claim_needs_a_figure_of_ours():
    with pytest.raises(ValueError, match="needs a formula or a measurement"):
        dataclasses.replace(CLAIMS[1], formula=None)


def test_a_claim_is_found_by_its_statement_and_a_statement_that_none_or_two_have_is_refused():
    one, other = CLAIMS[:2]
    assert house.stated([one, other], other.statement) is other
    for claims, count in (([other], 0), ([one, other, one], 2)):
        with pytest.raises(ValueError, match=f"^{count} claims say"):
            house.stated(claims, one.statement)


def test_two_errors_are_two_standard_errors_of_a_mean():
    assert house.two_errors([1.0, 3.0]) == pytest.approx(2.0)
    assert house.two_errors(each for each in (4.0, 4.0, 4.0)) == 0.0


def test_a_row_tells_the_noise_that_its_rule_asks_about(monkeypatch):
    asked = dataclasses.replace(CLAIMS[1], rule=beyond(lambda: 0.25, at_least(0.0)))
    monkeypatch.setattr(house, "claims", lambda: [asked, CLAIMS[1]])
    told, plain = (row["conditions of ours"] for row in house.ledger())
    assert told == f"{plain} (noise: 0.25)"


def test_a_claim_that_fails_stays_and_says_so(monkeypatch):
    failed = dataclasses.replace(CLAIMS[1], formula=Figure(lambda: 0.5, "times fewer bytes"))
    monkeypatch.setattr(house, "claims", lambda: [failed])
    (row,) = house.ledger()
    assert row["verdict"] == FAILED and row["by formula"].startswith("0.5")


def test_a_long_cell_becomes_a_card_on_a_phone_and_a_short_table_stays_one(rows):
    html = table(rows, caption="The ledger").to_html()
    assert 'class="explorable-table sentences"' in html and 'data-column="by formula"' in html
    assert "data-column" not in table([{"a": 1}], caption="Short").to_html()


def test_the_claim_is_frozen():
    assert isinstance(CLAIMS[0], Claim)
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLAIMS[0].published = 1.0
