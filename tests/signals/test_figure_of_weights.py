"""The arrows of example weights are legible, and a flipped label loses its weight."""

from support.legible import check_states

from figures.signals import weights as draw


def test_every_state_is_legible_and_a_flipped_label_turns_its_gradient():
    check_states(draw.arrows, draw.arrows_says, 200, flipped=list(draw.FLIPPED))
    before = draw._found("none")
    for place, name in enumerate(draw.FLIPPED[1:]):
        after = draw._found(name)
        assert (after[0][place] == -before[0][place]).all() and (before[2][place] > 0) != (after[2][place] > 0)
