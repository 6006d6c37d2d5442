"""The papers of the chapter on attention beyond one sequence, a row each."""

from effattn_core.coattention.papers.fusion import FUSION
from effattn_core.coattention.papers.graphs import GRAPHS

PAPERS = [*FUSION, *GRAPHS]
