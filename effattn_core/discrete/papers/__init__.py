"""The papers of this topic, a row each."""

from effattn_core.discrete.papers.factors import FACTOR_PAPERS
from effattn_core.discrete.papers.rules import RULE_PAPERS

PAPERS = [*RULE_PAPERS, *FACTOR_PAPERS]
