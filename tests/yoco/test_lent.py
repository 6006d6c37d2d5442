"""Layers of a trained model that borrow: what is drawn is what was recorded, and every state is told."""

import pytest

from figures import explore
from figures.yoco import lent

LAYERS = 20


def rows():
    """Two passages of a model of 20 layers; likeness falls with the distance, the cost with the layer."""
    found = []
    for passage in (0, 1):
        for layer in range(LAYERS):
            keys = [1 - (abs(layer - other) + 0.2 * passage) / 40 for other in range(LAYERS)]
            values = [each / 2 for each in keys]
            found.append(dict(what="likeness", passage=passage, layer=layer, keys=keys, values=values))
        base = 3.0 + passage
        found.append(dict(what="lent", passage=passage, layer=None, loss=base))
        found += [dict(what="lent", passage=passage, layer=layer, loss=base + (1 + 0.1 * passage) / layer)
                  for layer in range(1, LAYERS)]  # fmt: skip
        found.append(dict(what="lent", passage=passage, layer=lent.EVERY_SECOND, loss=base + 8))
    return found


def test_likeness_is_that_of_the_layer_so_many_before_and_cost_that_over_the_same_passage():
    assert lent.alike(rows(), "keys", 4).keys() == set(range(4, LAYERS))
    assert lent.alike(rows(), "keys", 4)[7] == pytest.approx([0.9, 0.895])
    assert lent.alike(rows(), "values", 1)[1] == pytest.approx([0.4875, 0.485])
    assert lent.costs(rows())[2] == pytest.approx([0.5, 0.55])
    assert lent.costs(rows())[lent.EVERY_SECOND] == pytest.approx([8, 8])
    with pytest.raises(ValueError, match="likeness 20 layers apart needs a row of layer 20 or later"):
        lent.alike(rows(), "keys", 20)


def test_the_panels_hold_means_and_bars_from_the_smallest_to_the_largest():
    likeness, cost = lent.lending(rows(), "keys", 2).data
    assert list(likeness.x) == list(range(2, LAYERS)) and list(cost.x) == list(range(1, LAYERS))
    assert likeness.y[0] == pytest.approx(0.9475) and likeness.error_y.array[0] == pytest.approx(0.0025)
    assert cost.y[0] == pytest.approx(1.05) and cost.error_y.arrayminus[0] == pytest.approx(0.05)


def test_every_state_is_told_and_drawn_differently():
    states = [(of, apart) for of in lent.PARTS for apart in lent.APART]
    told = {lent.lending_says(rows(), *state) for state in states}
    assert len(told) == len({lent.lending(rows(), *state).to_json() for state in states}) == len(states)
    assert "costs from 0.055 nats per token, layer 19, to 1, layer 1" in lent.lending_says(rows())


def test_what_was_recorded_lies_inside_the_axes_and_fits_its_budget():
    from effattn_core.recordings import measured

    found = measured("yoco/smollm2-cpu")
    assert {row["passage"] for row in found} == {0, 1, 2}
    html = explore.explore(
        lambda of, apart: lent.lending(found, of, apart), name="lending", caption="c",
        alt=lambda of, apart: lent.lending_says(found, of, apart), of=lent.PARTS, apart=list(lent.APART),
    ).html  # fmt: skip
    assert len(html.encode()) < 100_000
    low, high = lent.lending(found).layout.yaxis2.range
    costs = [each for layer, found_ in lent.costs(found).items() if layer != lent.EVERY_SECOND for each in found_]
    assert 10**low < min(costs) and max(costs) < 10**high
    assert len(costs) == 3 * 29
