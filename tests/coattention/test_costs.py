"""The formulas of coattention are what runs: operations counted, and what the kernels need not move."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from effattn_core.coattention import costs, pooling
from effattn_core.coattention.fusion import fused_scores
from kernels.coattention import live_blocks

BLOCKS = dict(block_ask=1, block_region=32)


@pytest.mark.parametrize("normalised", [True, False])
def test_operations_are_those_of_the_two_products_and_of_the_values(normalised):
    region, context, weight, value = (torch.ones(*shape) for shape in ((64, 32), (32,), (3, 32), (64, 32)))
    with FlopCounterMode(display=False) as counter:
        score = fused_scores(region, context, weight, normalised=normalised)
        score.softmax(-1) @ value
    counted = counter.get_total_flops()
    formula = costs.fusion_traffic(1, 1, 64, 32, 32, 3, normalised=normalised, **BLOCKS).flops
    # the formula's kernel makes the norm for each glimpse; the oracle once for all of them
    assert formula - counted == (2 * 64 * 32 * (3 - 1) if normalised else 0)


def test_one_block_reads_each_number_once():
    found = costs.fusion_traffic(2, 16, 32, 24, 32, 1, block_ask=16, block_region=32)
    tensors = torch.ones(2, 16, 24), torch.ones(2, 32, 24), torch.ones(2, 24), torch.ones(2, 32, 32)
    assert found.loaded == sum(each.nbytes for each in tensors)  # a batch item reads the weight vector for itself
    assert found.stored == torch.ones(2, 16, 32).nbytes + torch.ones(2, 16).nbytes
    assert (
        costs.fusion_traffic(2, 16, 32, 24, 32, 1, element=2, block_ask=16, block_region=32).loaded == found.loaded / 2
    )


def test_what_is_formed_is_four_tensors_of_every_region():
    assert costs.formed_bytes(100, 196, 1200) == 4 * torch.empty(100, 196, 1200, device="meta").nbytes


def test_a_column_s_mass_reads_causally_what_lies_below_the_diagonal():
    full, causal = (costs.column_traffic(1, 64, 32, block=16, causal=each) for each in (False, True))
    keys, row = 64 * 32 * 4, 32 * 4 + 4  # a row: a query and its log-sum-exp
    assert full.loaded == keys + 4 * 64 * row
    assert causal.loaded == keys + (64 + 48 + 32 + 16) * row
    lse = torch.ones(64)
    assert causal.stored == pooling.column_mass(torch.ones(64, 32), torch.ones(64, 32), lse).nbytes


def test_a_graph_of_no_edge_reads_queries_alone():
    tiles, first, column = live_blocks(torch.full((20, 50), float("-inf")))
    assert len(tiles) == len(column) == 0
    assert costs.graph_traffic(2, 20, 0, 0, 32, 64).loaded == 2 * (20 * 32 * 4 + 8 * (len(first) - 1))
    dense = costs.graph_traffic(2, 20, 2 * 50, 8, 32, 64)  # each of two blocks of rows reads all 50 keys
    assert dense.loaded == 2 * (20 * 32 * 4 + 100 * 96 * 4 + 8 * (4 * 256 + 4) + 16)
