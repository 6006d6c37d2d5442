"""What four papers on split data, moved knowledge and comparisons say, and how this library measures it."""

from effattn_core.splits.claims import comparison, institutions

CLAIMS = institutions.CLAIMS + comparison.CLAIMS
