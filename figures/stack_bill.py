"""The bill of a named stack beside the one that the book starts from."""

from effattn_core import bill as chapters
from effattn_core import stacks
from figures import bill, theme

CONTEXT = chapters.CONTEXT


def preset(stack, context=CONTEXT):
    """What does a named stack make of chapter 0's bill? Hollow: what that was."""
    return bill.beside(stacks.bill(stacks.PRESETS[stack], context), chapters.lines(None, context))


def preset_says(stack, context=CONTEXT):
    """`preset` in a sentence."""
    said = bill.beside_says(stacks.bill(stacks.PRESETS[stack], context), chapters.lines(None, context))
    return f"At {theme.tokens(context)} tokens, {stack}: {said}"


def refusals():
    """Rows for a table: each reason for which parts do not fit, and how many of all combinations have it."""
    from figures.stacks import combinations

    said = [each for each in combinations().values() if isinstance(each, str)]
    return [{"why": why, "combinations": said.count(why)} for why in dict.fromkeys(said)]
