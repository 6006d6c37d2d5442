"""The formulas of routing are what runs: weights and operations of a layer, rows of buffers and of tiles."""

import pytest
import torch

from effattn_core.routing import MixtureOfExperts, costs, violation
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


def test_a_decode_batch_reads_most_experts_long_before_each_has_enough_rows():
    one, many = costs.decode_step(1), costs.decode_step(4096)
    assert one.touched == costs.TOP_K and many.touched == pytest.approx(costs.EXPERTS)
    matrices = 3 * 4096 * costs.INNER * 2
    assert one.moved == pytest.approx(2 * matrices + 2 * 2 * 4096 * 2) and one.flops == 2 * matrices
    assert one.per_byte == pytest.approx(1, abs=0.01) and one.computed == 16
    assert many.rows == 1024 and 1 < many.computed < 1.01
    dense = costs.decode_step(64, inner=2 * costs.INNER, experts=1, top_k=1)
    apart = costs.decode_step(64)
    assert dense.flops == apart.flops and dense.per_byte == pytest.approx(4 * apart.per_byte, rel=0.01)


@pytest.mark.parametrize(("tokens", "experts", "top_k"), [(8, 16, 2), (40, 8, 1), (3, 4, 3)])
def test_fair_routing_reads_as_many_experts_as_the_formula_says(tokens, experts, top_k):
    generator = torch.Generator().manual_seed(0)
    read = [len(torch.rand(tokens, experts, generator=generator).argsort(1)[:, :top_k].unique()) for _ in range(400)]
    assert sum(read) / len(read) == pytest.approx(costs.touched(tokens, experts, top_k), rel=0.03)


def test_idle_devices_could_compute_what_the_fullest_expert_has_beyond_its_share():
    load = torch.tensor([40, 10, 20, 10])
    idle = sum(load.max().item() - each for each in load.tolist())
    assert costs.idle_flops(load.sum().item(), violation(load)) == idle
