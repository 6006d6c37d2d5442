"""The primer: its exercises, and what they are judged by."""
