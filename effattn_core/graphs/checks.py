"""The hidden cases of the exercises on graphs."""

from effattn_core.exercises import compare_number, exercise


@exercise("graphs.count", level="pencil")
def count(answer):
    """TO WRITE: the right number from the library's formula; each mistake that gives another number, with its name."""
    return compare_number(answer, 1, [(0, "TO WRITE: the likely mistake that gives 0.")])


@exercise("graphs.first", level="code")
def first(function):
    """TO WRITE: call `function` on shapes that the reader has not seen; a sentence names the likely mistake."""
    return "TO WRITE: the hidden cases of graphs.first."


@exercise("graphs.launch", level="kernel")
def launch(function):
    """TO WRITE: call `function` on ragged sizes, under the sanitizer; a sentence names the likely mistake."""
    return "TO WRITE: the hidden cases of graphs.launch."
