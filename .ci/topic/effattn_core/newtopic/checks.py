"""The hidden cases of the exercises on newtopic."""

from effattn_core.exercises import exercise


@exercise("newtopic.first", level="code")
def first(function):
    """TO WRITE: call `function` on shapes that the reader has not seen; a sentence names the likely mistake."""
    return "TO WRITE: the hidden cases of newtopic.first."
