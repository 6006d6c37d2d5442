"""What nine papers on attention beyond one sequence say, and how this library measures it."""

from effattn_core.coattention.claims.fusion import FUSION
from effattn_core.coattention.claims.graphs import GRAPHS

CLAIMS = [*FUSION, *GRAPHS]
