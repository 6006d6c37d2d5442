"""The hidden cases of the exercises on newtopic."""

from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import kernel_exercise


@exercise("newtopic.count", level="pencil")
def count(answer):
    """TO WRITE: the right number from the library's formula; each mistake that gives another number, with its name."""
    return compare_number(answer, 1, [(0, "TO WRITE: the likely mistake that gives 0.")])


@exercise("newtopic.first", level="code")
def first(function):
    """TO WRITE: call `function` on shapes that the reader has not seen; a sentence names the likely mistake."""
    return "TO WRITE: the hidden cases of newtopic.first."


@kernel_exercise("newtopic.launch")
def launch():
    """TO WRITE: `judging.Case`s on ragged sizes: what is right, and what each likely mistake gives, with its name."""
    return []
