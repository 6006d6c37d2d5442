"""A plugin of pytest: two long texts are told apart at the first place where they differ.

pytest's own account compares every line with every other, letter by letter. Of two lines of HTML with 300,000 letters
each, as a figure is stored, that takes hours; so it is asked for blocks instead (`assertion_text_diff_style`), and this
account is the first that nbval takes.
"""

import pytest

LONG = 2000  # letters; shorter texts are left to pytest
SHOWN = 200  # letters before and after the first difference


@pytest.hookimpl(tryfirst=True)
def pytest_assertrepr_compare(op, left, right):
    if op != "==" or not (isinstance(left, str) and isinstance(right, str)) or max(len(left), len(right)) < LONG:
        return None
    pairs = enumerate(zip(left, right, strict=False))
    place = next((place for place, (ours, theirs) in pairs if ours != theirs), min(len(left), len(right)))
    window = slice(max(0, place - SHOWN), place + SHOWN)
    return [
        f"two texts of {len(left):,} and {len(right):,} letters, which differ first at letter {place:,}",
        f"stored: {left[window]!r}",
        f"now:    {right[window]!r}",
    ]
