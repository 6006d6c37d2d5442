"""The figures of graphs: their numbers are the library's, and every state is legible."""

from statistics import fmean

import pytest
import torch
from support.legible import check_legible, check_states

from effattn_core.graphs import gain, gain_of_iteration, oracle
from effattn_core.graphs.worlds import world
from effattn_core.recordings import measured
from figures import graphs as draw


def test_every_state_is_legible_and_says_something_of_its_own():
    check_states(
        draw.spreading, draw.spreading_says, 200, member=list(draw.WHO), hops=draw.HOPS[1::2], beta=draw.SPREAD[:2]
    )
    check_states(draw.spectrum, draw.spectrum_says, 300, graph=draw.SEEN, beta=draw.BETAS[::2], layers=draw.LAYERS[::2])
    check_legible(draw.spreading("the president", 0, 0.5))


@pytest.mark.parametrize("member", draw.WHO)
def test_what_spreads_is_the_smoothed_step_of_one_row(member):
    adjacency, node = world("karate").adjacency, draw.WHO[member]
    step = torch.eye(adjacency.nodes, dtype=torch.float64)[:, node : node + 1]
    for hops in draw.HOPS:
        shares = draw._shares(member, hops, 0.9)
        torch.testing.assert_close(
            torch.tensor(shares, dtype=torch.float64)[:, None], oracle(step, adjacency, 0.9, hops)
        )
        dots = draw.spreading(member, hops, 0.9).data[1]
        assert [each == 0 for each in shares] == [each == "circle-open" for each in dots.marker.symbol]
        reached = torch.linalg.matrix_power(adjacency.dense() + torch.eye(34, dtype=torch.float64), hops)[node] > 0
        assert sum(each > 0 for each in shares) == reached.sum()
    assert len(draw.PLACES) == adjacency.nodes and len(set(draw.PLACES)) == adjacency.nodes
    assert draw.spreading_says(member, 0).endswith("only that row moves, by 1.00.")


def test_gains_are_those_of_the_library_and_turned_ones_are_marked():
    for name in draw.SEEN:
        values = torch.linalg.eigvalsh(world(name).adjacency.dense())
        for beta, layers in ((0.3, 1), (0.9, 3), (0.99, 1)):
            figure = draw.spectrum(name, beta, layers)
            _, series, right, wrong = figure.data
            torch.testing.assert_close(
                torch.tensor(series.y, dtype=torch.float64), gain(values, beta, layers), atol=5e-3, rtol=0
            )
            turned = (gain_of_iteration(values, beta, layers) < -1e-9).sum()
            marked = [each for each in wrong.y if each is not None]
            assert len(marked) == turned and all(each < 0 for each in marked)
            assert len(right.y) + len(marked) == len(values) and min(right.y) >= -1e-9
    assert min(draw.spectrum("davis", 0.99, 3).data[1].y) == pytest.approx(0.005, abs=1e-3)
    assert draw.spectrum("davis", 0.99, 2).data[1].y[0] == pytest.approx(1 / 3, abs=1e-2)  # at -1, the first


@pytest.mark.parametrize("name", draw.recorded())
def test_links_and_rates_are_those_of_the_recording(name):
    check_legible(draw.links(name))
    check_legible(draw.rates(name))
    rows = {row["method"]: row["scores"] for row in measured(draw.RUN, graph=name) if "scores" in row}
    drawn = {}
    for trace in draw.links(name).data:
        drawn |= dict(zip(trace.customdata, trace.x, strict=True))
    assert drawn == {method: round(fmean(scores), 4) for method, scores in rows.items()}
    assert all(each.error_x.array for each in draw.links(name).data if len(each.x))
    for trace in draw.rates(name).data:
        tuned = [row for row in measured(draw.RUN, what="tuning", graph=name, method=trace.name)]
        for rate, best in zip(trace.x, trace.y, strict=True):
            assert best == round(max(row["best"] for row in tuned if row["rate"] == rate), 4)
    assert draw.links_says(name).endswith(".") and draw.rates_says(name).endswith(".")
