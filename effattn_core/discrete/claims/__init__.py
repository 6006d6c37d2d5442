"""What the papers on discrete structure say, and how this library measures it."""

from effattn_core.discrete.claims.factors import FACTOR_CLAIMS
from effattn_core.discrete.claims.rules import RULE_CLAIMS

CLAIMS = [*RULE_CLAIMS, *FACTOR_CLAIMS]
