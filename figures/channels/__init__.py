"""Figures of the channels chapter."""
