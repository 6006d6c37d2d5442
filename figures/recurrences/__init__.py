"""Figures of recurrences: the rules, and a map of the family."""
