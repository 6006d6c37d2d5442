"""The formulas of routing are what runs: weights and operations of a layer, rows of buffers and of tiles."""

import pytest
import torch

from effattn_core.routing import MixtureOfExperts, costs
from kernels.routing import make_plan


def test_a_layer_has_the_weights_that_the_formula_says():
    for shared in (0, 2):
        made = MixtureOfExperts(16, 24, 5, 2, shared=shared)
        weights = sum(weight.numel() for weight in made.parameters())
        assert weights == costs.layer_parameters(16, 24, 5, shared)
        one = 2 * 3 * 16 * 24
        assert costs.layer_flops(16, 24, 5, 2, shared) == (2 + shared) * one + 2 * 16 * 5


def test_buffers_compute_their_capacity_and_tiles_what_the_plan_launches():
    load = [130, 0, 64, 6]
    assert costs.capacity_rows(load, 50) == (200, 80 + 14)
    assert costs.tile_rows(load, 64) == 192 + 0 + 64 + 64
    expert = torch.arange(4).repeat_interleave(torch.tensor(load))[:, None]
    for block in (16, 64, 128):
        tiles = (make_plan(expert, 4, block).tile_expert >= 0).sum().item()
        assert tiles * block == costs.tile_rows(load, block)


def test_the_share_that_fair_routing_drops_is_that_of_the_sheet():
    assert costs.drop_share(8, 64) == pytest.approx(0.0466, abs=1e-4)  # simulated .0465
    assert costs.drop_share(8, 1024) == pytest.approx(0.0117, abs=1e-4)
