"""The figures of graphs: their numbers are the library's, and every state is legible."""

import pytest
from support.legible import check_legible

from figures import graphs as draw


@pytest.mark.parametrize("step", draw.STEPS)
def test_every_state_is_legible_and_says_something_of_its_own(step):
    check_legible(draw.mechanism(step))
    assert draw.mechanism_says(step).endswith(".")


def test_the_numbers_that_are_drawn_are_those_of_the_library():
    pytest.fail("TO WRITE: what the figure draws, equal to effattn_core.graphs.")
