"""Cut graphs and links found in them: what is held out is unknown, cuts do not touch, scores are NDCG by hand."""

import math

import pytest
import torch

from effattn_core.graphs import AdamWSEvo, Smoothed
from effattn_core.graphs.prediction import AT, BATCH, START, Task, trained, untrained
from effattn_core.graphs.worlds import GRAPHS, cut, world

SIZES = {"karate": (34, 78), "les miserables": (77, 254), "davis": (32, 89), "florentine": (15, 20)}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_world_is_the_graph_that_the_sheet_names(name):
    found = world(name)
    assert (found.nodes, found.edges.shape[1]) == SIZES[name] and len(set(found.names)) == found.nodes
    assert found.adjacency.entries == 2 * found.edges.shape[1]
    if found.side is not None:
        assert (found.side[found.edges[0]] != found.side[found.edges[1]]).all()


@pytest.mark.parametrize("name", GRAPHS)
def test_a_cut_holds_out_a_fifth_and_leaves_nobody_alone(name):
    found = world(name)
    for seed in range(5):
        rest, out = cut(found, seed)
        together = torch.cat([rest.edges, out], 1).T.tolist()
        assert sorted(together) == sorted(found.edges.T.tolist())
        assert 0 < out.shape[1] <= round(0.2 * found.edges.shape[1])
        degree = rest.edges.flatten().bincount(minlength=found.nodes)
        assert (degree[found.edges.flatten().unique()] > 0).all()
        assert rest.weights.shape == rest.edges.shape[1:]
    assert torch.equal(cut(found, 3)[1], cut(found, 3)[1]) and not torch.equal(cut(found, 3)[1], out)


def test_candidates_are_unknown_pairs_across_the_sides():
    for name in ("davis", "karate"):
        found = world(name)
        task = Task(found, (0, 1))
        assert not (task.known & task.candidates).any() and not (task.wanted & ~task.candidates).any()
        assert not task.candidates.diagonal(dim1=1, dim2=2).any() and torch.equal(task.wanted, task.wanted.mT)
        if found.side is not None:
            same = found.side[:, None] == found.side
            assert not (task.candidates & same).any()
        one = cut(found, 1)[0].adjacency
        torch.testing.assert_close(task.blocks()[1], one.dense())


def test_batches_are_edges_and_strangers_and_the_same_for_everybody():
    task = Task(world("davis"), (4, 5))
    batches = task.batches(30)
    assert batches.shape == (30, 3, 2 * BATCH) and task.batches(30) is batches
    for number in range(2):
        one, other, stranger = (
            batches[:, :, number * BATCH : (number + 1) * BATCH].transpose(0, 1).flatten(1) - 32 * number
        )
        assert task.known[number, one, other].all() and task.candidates[number, one, stranger].all()
        assert len(one.unique()) > 20  # both ends begin
    again = Task(world("davis"), (5,)).batches(30)
    assert torch.equal(again, batches[:, :, BATCH:] - 32)


def test_the_score_is_ndcg_by_hand():
    task = Task(world("karate"), (0,))
    task.candidates = torch.zeros(1, 34, 34, dtype=torch.bool)
    task.wanted = task.candidates.clone()
    task.candidates[0, 0, 1:9] = True
    task.wanted[0, 0, [2, 5]] = True  # one row asks
    scores = torch.zeros(1, 34, 34)
    scores[0, 0, 1:9] = torch.tensor([9.0, 8, 1, 2, 5, 4, 3, 0])  # 2 is second, 5 is third
    wanted = (1 / math.log2(3) + 1 / math.log2(4)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert task.ranked(scores).item() == pytest.approx(wanted)
    scores[0, 0, [2, 5]] = 100
    assert task.ranked(scores).item() == pytest.approx(1)
    scores[0, 0, [2, 5]] = -1
    assert task.ranked(scores).item() == 0
    task.wanted[0, 1, 3] = task.candidates[0, 1, 3] = True  # another that asks, answered: the mean
    assert task.ranked(scores).item() == pytest.approx(0.5)
    task.wanted[0, 0, 1:9] = True  # more than are looked at
    assert AT < 8 and task.ranked(scores).item() == pytest.approx(1)


@pytest.mark.parametrize("optimizer", [AdamWSEvo, "plain"])
def test_cuts_side_by_side_are_trained_as_if_each_were_alone(optimizer):
    def make(table, adjacency):
        if optimizer == "plain":
            return torch.optim.AdamW([table], lr=0.05)
        return optimizer(table, adjacency, lr=0.05, beta=0.9)

    both = trained(Task(world("davis"), (0, 1)), make, 40, 20)[""]
    for place, seed in enumerate((0, 1)):
        alone = trained(Task(world("davis"), (seed,)), make, 40, 20)[""]
        torch.testing.assert_close(both[:, place], alone[:, 0])


def test_a_training_learns_stops_where_asked_and_judges_what_is_made_of_its_table():
    task = Task(world("davis"), range(4))
    assert START == task.starts.std().item() or abs(task.starts.std().item() / START - 1) < 0.1

    def make(table, adjacency):
        return AdamWSEvo(table, adjacency, lr=0.03, beta=0.9)

    whole = trained(task, make, 60, 20, after={"nothing": torch.zeros_like, "same": torch.clone})
    short = trained(task, make, 60, 20, until=40)
    assert torch.equal(whole[""][:2], short[""]) and torch.equal(whole["same"], whole[""])
    chance = untrained(task)["chance"].mean()
    assert whole[""][-1].mean() > 1.3 * chance and not torch.equal(whole["nothing"], whole[""])
    seen = []

    def inside(table):
        seen.append(table.requires_grad)
        return 2 * table

    twice = trained(task, lambda table, _: torch.optim.SGD([table], lr=0.0), 20, 20, inside=inside)
    assert torch.equal(twice[""][0], task.ranked(task.scores_of(task.starts))) and seen == [True] * 20 + [False]


def test_walks_and_popularity_know_nothing_of_what_is_held_out():
    task = Task(world("les miserables"), range(6))
    found = {name: each.mean().item() for name, each in untrained(task).items()}
    assert found["walk"] > found["popularity"] > found["chance"] and found["walk"] == pytest.approx(0.8, abs=0.06)
    leaked = Task(world("les miserables"), range(6))
    leaked.known, leaked.candidates = leaked.known | leaked.wanted, leaked.candidates
    assert torch.equal(leaked.adjacency.values, task.adjacency.values)  # Ã is of the known edges


def test_another_optimizer_can_be_smoothed_in_the_same_task():
    task = Task(world("karate"), (0, 1))

    def make(table, adjacency):
        return Smoothed(torch.optim.SGD([table], lr=0.5, momentum=0.9), table, adjacency, beta=0.9)

    assert trained(task, make, 40, 40)[""].mean() > untrained(task)["chance"].mean()
