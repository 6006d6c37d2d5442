"""The figures of masks, messages and margins: every state is legible, and draws what the functions find."""

import pytest
import torch
from support.legible import check_states

from effattn_core.discrete.factors import enumerated, ring
from effattn_core.discrete.margins import breakdown
from effattn_core.discrete.masks import overlap
from effattn_core.recordings import measured
from figures import discrete as draw
from figures.discrete import masks
from figures.discrete.settling import COUPLINGS, DAMPINGS, MISSING


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(masks.smoothing, masks.smoothing_says, 200, sigma=masks.SIGMAS)
    check_states(
        draw.settling, draw.settling_says, 200, coupling=COUPLINGS, damping=DAMPINGS
    )  # fmt: skip
    check_states(draw.turning, draw.turning_says, 300, missing=MISSING)


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_the_voxels_that_are_drawn_are_those_of_the_recorded_arm(sigma):
    (sheet,) = measured(masks.RUN, what="sheet")
    kept = torch.zeros(32, 32, dtype=torch.bool)
    dots = masks.smoothing(sigma).data[2]
    kept[list(dots.y), list(dots.x)] = True
    (row,) = measured(
        masks.RUN, what="mask", trials=sheet["trials"], seed=0, rate="rewound", voxels=f"learned, sigma {sigma:g}"
    )
    assert overlap(kept, torch.tensor(sheet["region"]).bool()) == pytest.approx(row["overlap"], abs=0.02)


def test_the_dotted_lines_are_exact_beliefs():
    figure = draw.settling(2.0, 0.5)
    exact = [each[1].item() for each in enumerated(ring(2.0))[1]]
    assert [shape.y0 for shape in figure.layout.shapes] == pytest.approx(exact[:2])


def test_a_relation_is_rejected_beyond_its_breakdown_point():
    for missing in MISSING:
        dots = draw.turning(missing).data[0]
        for name, margin in zip(dots.y, dots.x, strict=True):
            assert (margin <= 0) == (missing >= breakdown(name)), (name, missing)
