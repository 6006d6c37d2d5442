"""The formulas of smoothing: operations counted, bytes of a step, and what a lazy step would have moved."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effattn_core.graphs import costs
from effattn_core.graphs.worlds import world


def test_operations_are_those_of_the_products():
    adjacency = world("karate").adjacency
    counter = FlopCounterMode(display=False)
    with counter:
        for _ in range(3):
            adjacency.dense(torch.float32) @ torch.ones(34, 8)
    dense = 3 * 2 * 34 * 34 * 8
    assert counter.get_total_flops() == dense
    # the sparse product multiplies the entries alone
    assert costs.smoothing_flops(adjacency.entries, 8, 3) == dense * adjacency.entries // 34**2


@pytest.mark.parametrize("layers", [0, 1, 2, 5])
def test_bytes_of_a_step_are_those_of_its_hops(layers):
    nodes, entries, dim = 100, 640, 64
    hops = [
        costs.hop_traffic(nodes, entries, dim, block_dim=64, last=hop == layers - 1, element=2 if hop == 0 else 4,
                          out=2 if hop == layers - 1 else 4)
        for hop in range(layers)
    ]  # fmt: skip
    wanted = sum(each.loaded + each.stored for each in hops) if layers else 2 * nodes * dim * 2
    assert costs.smoothing_bytes(nodes, entries, dim, layers, element=2) == wanted


def test_adamw_moves_seven_numbers_per_weight_of_the_rows_that_it_steps():
    assert costs.adamw_bytes(1000, 64) == 28 * 1000 * 64
    assert costs.adamw_bytes(1000, 64, element=2) == 14 * 1000 * 64
