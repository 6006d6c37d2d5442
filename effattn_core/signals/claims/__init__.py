"""What the papers on training signals say, and how this library measures it."""

from effattn_core.signals.claims import programs, weights

CLAIMS = [*programs.CLAIMS, *weights.CLAIMS]
