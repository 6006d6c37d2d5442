"""Figures of the attention chapter."""
