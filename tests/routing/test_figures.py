"""The figures of routing: their numbers are the library's, and every state is legible."""

import pytest
import torch
from support.legible import check_legible, check_states

from effattn_core import routing
from effattn_core.routing import CAUSAL, costs
from figures import routing as draw


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(draw.prices, draw.prices_says, 250, skew=draw.SKEWS[1:], rounds=draw.ROUNDS[::4])
    check_states(draw.reads, draw.reads_says, 200, router=draw.SEEN, changed=draw.CHANGED[1:])
    check_states(
        draw.padding, draw.padding_says, 200, experts=draw.COUNTS, block_row=draw.TILES, factor=draw.FACTORS[::3]
    )
    check_legible(draw.prices(0.0, 0))


def test_prices_level_what_is_drawn_and_close_on_the_optimum():
    for skew in draw.SKEWS:
        values, path = draw._values(skew), [draw._after(skew, each) for each in draw.ROUNDS]
        assert path[0][0] == routing.priced(values, torch.zeros(4), 2).sum(0).tolist()
        assert all(value <= 1 + 1e-9 <= bound + 2e-9 for _, bound, value in path)
        assert path[-1][1] - path[-1][2] < 0.01 and max(path[-1][0]) <= draw.CAPACITY * 1.1
        bars = draw.prices(skew, 3).data[0]
        assert list(bars.y) == path[3][0]


@pytest.mark.parametrize("router", draw.SEEN)
def test_earlier_tokens_light_up_for_routers_that_read_the_future_alone(router):
    moved = 0
    for changed in draw.CHANGED:
        lost, won = draw.reads(router, changed).data[1:3]
        moved += len(lost.x) + len(won.x)
    assert (moved == 0) is (router in CAUSAL) or router == "gshard"


def test_the_padding_bill_is_that_of_the_formulas():
    load = draw._load(16)
    useful, padding, dropped = draw.padding(16, 128, 1.25).data
    assert sum(load) == draw.ROWS and useful.x[2] + padding.x[2] == costs.tile_rows(load, 128)
    assert useful.x[1] + padding.x[1], dropped.x[1] == costs.capacity_rows(load, 160)
