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
        bars, hollow = draw.prices(skew, 3).data[:2]
        assert list(bars.y) == path[3][0] and list(hollow.y) == path[0][0]
        asked = [note.text for note in draw.prices(skew, 3).layout.annotations if note.text.startswith("price")]
        assert asked == [f"price {price:.2f}" for price in draw._prices(skew, 3)]


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
    assert (useful.x[1] + padding.x[1], dropped.x[1]) == costs.capacity_rows(load, 160)


def test_losses_by_mode_are_those_of_the_rows_and_stand_beside_the_best_without_the_future():
    rows = [
        dict(name=name, seed=seed, trained=0.6 + 0.01 * seed, decoding=0.7)
        for name in ("expert choice", "top-k")
        for seed in range(3)
    ]
    figure = draw.modes(rows, best=0.693)
    check_legible(figure)
    trained, decoding = figure.data
    assert list(trained.x) == [row["trained"] for row in rows] and set(decoding.x) == {0.7}
    assert figure.layout.shapes[0].x0 == 0.693 and not draw.modes(rows).layout.shapes
    said = draw.modes_says(rows, best=0.693)
    assert "expert choice 0.610 as trained, 0.700 as it decodes" in said and said.endswith("nothing is below 0.693.")
