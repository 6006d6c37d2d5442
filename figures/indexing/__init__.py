"""Figures of the indexing chapter."""
