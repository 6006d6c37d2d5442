"""The formulas of discrete: what a tile saves over the broadcast."""

from effattn_core.discrete import costs


def test_the_sweep_moves_hundreds_of_times_less_than_the_broadcast():
    sizes = 64, 1560, 64
    swept = costs.sweep_traffic(*sizes, block_row=64, block_input=32, block_node=64)
    assert swept.loaded + swept.stored == 64 * 1560 + 4 * 1560 * 64 + 5 * 64 * 64
    assert 250 < costs.broadcast_bytes(*sizes) / (swept.loaded + swept.stored) < 310
