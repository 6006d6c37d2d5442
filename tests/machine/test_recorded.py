"""The trained model that the page sets beside its formulas: the table is the recording's, the formulas are costs'."""

import json

import pytest
from support.house import MEASUREMENTS

from effattn_core import costs
from effattn_core.machine.recorded import against_formulas, recorded_facts

ROWS = json.loads((MEASUREMENTS / "pretrained" / "cpu.json").read_text())["rows"]
TABLE = {row["what"]: row for row in against_formulas(ROWS)}


def rows_of(what):
    return {row["name"]: row for row in ROWS if row["what"] == what}


def test_bytes_are_the_formulas():
    kept = rows_of("bytes")
    assert kept["weights"]["bytes"] == costs.weight_bytes(costs.SMOLLM2, "float32")
    assert kept["cache"]["bytes"] == costs.cache_bytes(costs.SMOLLM2, kept["cache"]["tokens"], dtype="float32")
    row = TABLE["weights"]
    assert row["times the formula"] == 1 and row["this book"] == row["by formula"]


def test_the_least_times_are_the_formulas_over_the_rates_and_no_time_is_below_what_arithmetic_takes():
    prompt, token = rows_of("prompt"), rows_of("token")
    tokens = prompt["this book"]["tokens"]
    assert prompt["this book"]["formula"] == costs.prefill_flops(costs.SMOLLM2, tokens)
    moved = costs.decode_bytes(costs.SMOLLM2, tokens, dtype="float32", weights="float32")
    assert token["this book"]["formula"] == moved
    fastest = max(row["median"] for row in ROWS if row["what"] == "rate" and row["name"] == "multiplying")
    ratio = prompt["this book"]["median"] * fastest / prompt["this book"]["formula"]
    assert TABLE[f"prompt of {tokens:,} tokens"]["times the formula"] == pytest.approx(ratio) and 0.9 < ratio < 2


def test_the_page_says_what_was_recorded():
    facts = recorded_facts(ROWS)
    token = rows_of("token")
    assert float(facts["smollm2-written"]) == pytest.approx(1 / token["this book"]["median"], abs=0.06)
    ratio = token["this book"]["median"] / token["transformers"]["median"]
    assert float(facts["smollm2-token-ratio"]) == pytest.approx(ratio, abs=0.006)
    assert rows_of("logits")["largest difference over largest logit"]["error"] < 1e-4
