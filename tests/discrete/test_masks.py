"""The mask folds into the weights, the filter keeps a constant, and it comes before the threshold."""

import pytest
import torch

from effattn_core.discrete.masks import chosen, folded, low_pass, oracle, overlap


def test_folding_the_mask_into_the_kept_rows_leaves_the_output():
    generator = torch.Generator().manual_seed(0)
    voxels, mask, weight = (
        torch.randn(*s, dtype=torch.float64, generator=generator) for s in ((5, 12), (3, 4), (3, 4, 2))
    )
    kept = mask > 0
    wanted = oracle(voxels, (mask * kept).flatten(), weight.flatten(0, 1), 0.5)
    torch.testing.assert_close(voxels[:, kept.flatten()] @ folded(mask, weight, kept) + 0.5, wanted)


def test_the_filter_keeps_a_constant_up_to_the_edges():
    torch.testing.assert_close(low_pass(torch.ones(9, 7), 1.5), torch.ones(9, 7))


def test_scores_are_filtered_before_the_threshold():
    # A lone loud voxel, and a block of quieter ones: thresholded first, the lone one would stay.
    mask = torch.zeros(12, 12, dtype=torch.float64)
    mask[1, 1], mask[6:10, 6:10] = 2.0, 1.0
    weight, block = torch.ones(12, 12, 1, dtype=torch.float64), torch.zeros(12, 12, dtype=torch.bool)
    block[6:10, 6:10] = True
    assert chosen(mask, weight, 16, 0.0)[1, 1]
    assert overlap(chosen(mask, weight, 16, 1.0), block) == 1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="sigma"):
        low_pass(torch.ones(3, 3), -1.0)
    with pytest.raises(ValueError, match="count"):
        chosen(torch.ones(2, 2), torch.ones(2, 2, 1), 5, 1.0)
