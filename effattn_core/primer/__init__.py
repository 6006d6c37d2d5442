"""The primer: its exercises."""
