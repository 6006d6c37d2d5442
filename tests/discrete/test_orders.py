"""What comes first, and by what it is weighed: filter then threshold, mask times weight, HingeABL's own weights."""

import pytest
import torch
from torch.nn.functional import softplus

from effattn_core.discrete.margins import hinge_abl
from effattn_core.discrete.masks import chosen, rate


def test_a_block_of_quiet_voxels_outlives_more_loud_ones_that_stand_alone():
    # Thresholded first, the 16 best would all be lone ones, and a filter after it could not bring the block back.
    mask, weight = torch.zeros(24, 24, dtype=torch.float64), torch.ones(24, 24, 1, dtype=torch.float64)
    mask[::4, 12::4] = 1.2
    mask[4:8, 2:6] = 1.0
    block = mask == 1
    assert (mask == 1.2).sum() > 16 and not (chosen(mask, weight, 16, 0.0) & block).any()
    assert torch.equal(chosen(mask, weight, 16, 1.0), block)


def test_a_scale_that_moves_between_mask_and_weight_changes_no_choice():
    dice = torch.Generator().manual_seed(0)
    mask, scale = (torch.rand(8, 8, dtype=torch.float64, generator=dice) + 0.1 for _ in range(2))
    weight = torch.randn(8, 8, 3, dtype=torch.float64, generator=dice)
    wanted = chosen(mask, weight, 20, 1.0)
    assert torch.equal(chosen(mask * scale, weight / scale[..., None], 20, 1.0), wanted)
    assert not torch.equal(chosen(mask * scale, weight, 20, 1.0), wanted)


def test_a_rate_begins_at_its_start_and_ends_at_its_stop():
    assert [rate(step, 3, 1e-2, 1e-4) for step in range(3)] == pytest.approx([1e-2, 5.05e-3, 1e-4])


def test_hinge_abl_is_its_formula_written_out():
    margin = torch.tensor([2.0, -6.0, -1.0, 7.0, 0.5], dtype=torch.float64)
    labels = torch.tensor([True, True, False, False, False])
    far = torch.tensor([3.0, 11.0, 4.0, 12.0, 5.5], dtype=torch.float64)  # 5 - d of positives, 5 + d of negatives
    wanted = (far[:2] * softplus(-margin[:2])).sum() / 14 + (far[2:] * softplus(margin[2:])).sum() / 21.5
    assert hinge_abl(margin, labels).item() == pytest.approx(wanted.item(), rel=1e-12)
    beyond = torch.tensor([9.0, -9.0], dtype=torch.float64)  # both further than 5 on their right side
    assert hinge_abl(beyond, torch.tensor([True, False])).item() == 0
