"""Four papers, a row each: split data, moved knowledge, linked names, a language model among models of tables."""

from effattn_core.splits.papers import comparison, institutions

PAPERS = institutions.PAPERS + comparison.PAPERS
