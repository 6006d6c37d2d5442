"""The ledger: every claim has a source and conditions, is measured, and can disagree."""

import dataclasses

from effattn_core import ledger as claims
from effattn_core.attention.claims import CLAIMS


def test_every_claim_is_measured_under_stated_conditions():
    rows = claims.ledger()
    assert len(rows) == len(claims.claims()) > len(claims.ledger("attention")) > 0
    assert all(row["agrees"] for row in claims.ledger("attention"))
    assert all(row["source"] and row["conditions"] and row["measured here"] for row in rows)
    assert claims.ledger("nothing") == []


def test_a_claim_that_fails_stays_and_says_so(monkeypatch):
    failed = dataclasses.replace(CLAIMS[1], measure=lambda: 0.5)
    monkeypatch.setattr(claims, "claims", lambda: [failed])
    (row,) = claims.ledger()
    assert row["agrees"] is False and row["measured here"].startswith("0.5")
