"""The hidden cases of the exercises on discrete structure: importing it registers them all."""

from effattn_core.discrete.checks import factors, rules  # noqa: F401
