"""Figures of retention: the forms, and what 16 bits do."""
