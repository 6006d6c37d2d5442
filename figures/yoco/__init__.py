"""Figures of yoco: the model, and what was trained."""
