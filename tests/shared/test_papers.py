"""The table of papers: every row leads to code that runs and to a test that holds it."""

import ast
import importlib
import re

import pytest
from support.house import ROOT

from effattn_core.ledger import MEANING, claims
from effattn_core.papers import over_seeds, papers, rows

PAPERS = papers()


def test_there_are_twenty_six_papers_each_once():
    assert len(PAPERS) == len({paper.key for paper in PAPERS}) == 26


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.key)
def test_a_row_leads_to_a_function_a_test_and_a_page(paper):
    module, name = paper.function.rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), name))
    file, _, name = paper.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    page = (ROOT / "book" / "7-travel" / f"{paper.topic}.md").read_text(encoding="utf-8")
    assert re.search(rf"\{{cite(:\w+)?\}}`[^`]*\b{paper.key}\b", page), f"the page does not cite {paper.key}"
    assert not paper.reconstruction or re.search("reconstruction", page, re.IGNORECASE)


def test_what_was_measured_and_the_verdict_come_from_the_ledger():
    known = claims()
    for topic in {paper.topic for paper in PAPERS}:
        for row in rows(topic):
            assert re.search(r"\d", row["measured"]), row
            assert row["verdict"] in MEANING, row
    assert all(any(paper.claim is claim for claim in known) for paper in PAPERS)


def test_a_spread_over_seeds():
    assert over_seeds([0.5, 0.6, 0.7]) == ".600 ± .100"
    assert over_seeds([12.0]) == "12 ± .000"
