"""The papers on training signals, a row each."""

from effattn_core.signals.papers import programs, weights

PAPERS = [*programs.PAPERS, *weights.PAPERS]
