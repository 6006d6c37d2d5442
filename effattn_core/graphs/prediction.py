"""Link prediction on cut graphs by matrix factorisation, many cuts at once: each is a part of one large graph.

A node has an embedding, and the dot product of two says how likely they are neighbours. Trained by BPR (Rendle et al.
2009): an edge is to score above a pair that is none. Optimizers work element by element, or along edges, so that cuts
side by side in one table are trained as if each were alone; the optimizer is the library's, as a reader calls it.
"""

import functools
import math
from collections.abc import Callable

import torch
from torch.nn import functional

from effattn_core.graphs.adjacency import united
from effattn_core.graphs.worlds import World, cut

AT = 5  # how many of a node's best candidates are looked at: the graphs are small
DIM, BATCH, START = 16, 16, 0.1  # numbers per node; edges of each cut per step; deviation of the first table


class Task:
    """Cuts of one world side by side. seeds: of the cuts, one each.

    adjacency: of what is left of the edges, all cuts as one graph; candidates, wanted: bool [cuts, nodes, nodes], which
    pairs may be proposed (no known edge, no node itself, across the sides if there are two) and which are held out.
    """

    def __init__(self, found: World, seeds):
        self.seeds, self.nodes = tuple(seeds), found.nodes
        cuts = [cut(found, seed) for seed in self.seeds]
        self.adjacency = united([rest.adjacency for rest, _ in cuts])
        shape = (len(cuts), self.nodes, self.nodes)
        self.known, self.wanted = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        for number, (rest, held_out) in enumerate(cuts):
            for target, edges in ((self.known, rest.edges), (self.wanted, held_out)):
                target[number, edges[0], edges[1]] = target[number, edges[1], edges[0]] = True
        allowed = ~torch.eye(self.nodes, dtype=torch.bool)
        if found.side is not None:
            allowed &= found.side[:, None] != found.side
        self.candidates = allowed & ~self.known
        self.edges = [rest.edges for rest, _ in cuts]
        self.starts = torch.stack([self._draw(seed) for seed in self.seeds]).flatten(0, 1)

    def _draw(self, seed):
        return START * torch.randn(self.nodes, DIM, generator=torch.Generator().manual_seed(10_000 + seed))

    @functools.lru_cache(maxsize=1)  # noqa: B019  (every run of a task reads the same)
    def batches(self, steps: int) -> torch.Tensor:
        """(one, neighbour, stranger) of each step: rows of the table, int64 [steps, 3, cuts · BATCH]."""
        parts, chance = [], self.candidates.float()
        for number, (edges, seed) in enumerate(zip(self.edges, self.seeds, strict=True)):
            generator = torch.Generator().manual_seed(20_000 + seed)
            drawn = edges[:, torch.randint(edges.shape[1], (steps * BATCH,), generator=generator)]
            turned = torch.rand(steps * BATCH, generator=generator) < 0.5
            one, other = torch.where(turned, drawn, drawn.flip(0))
            stranger = torch.multinomial(chance[number, one], 1, generator=generator)[:, 0]
            parts.append((torch.stack([one, other, stranger]) + number * self.nodes).view(3, steps, BATCH))
        return torch.cat(parts, 2).transpose(0, 1)

    def ranked(self, scores: torch.Tensor) -> torch.Tensor:
        """NDCG@AT of scores [cuts, nodes, nodes], the mean over nodes with a held-out edge: float64 [cuts]."""
        scores = scores.double().masked_fill(~self.candidates, -math.inf)
        best = scores.topk(min(AT, self.nodes), -1).indices
        discount = 1 / torch.arange(2, best.shape[-1] + 2).double().log2()
        found = (self.wanted.gather(-1, best) * discount).sum(-1)
        count = self.wanted.sum(-1)
        ideal = torch.cat([discount.new_zeros(1), discount.cumsum(0)])[count.clamp(max=len(discount))]
        asked = count > 0
        return torch.where(asked, found / ideal.where(asked, ideal.new_ones(())), 0).sum(-1) / asked.sum(-1)

    def scores_of(self, table: torch.Tensor) -> torch.Tensor:
        """Dot products of a table [cuts · nodes, dim] within each cut, [cuts, nodes, nodes]."""
        parts = table.detach().view(len(self.seeds), self.nodes, -1)
        return parts @ parts.mT

    def blocks(self) -> torch.Tensor:
        """Ã of each cut, float64 [cuts, nodes, nodes]."""
        dense = self.adjacency.dense().view(len(self.seeds), self.nodes, len(self.seeds), self.nodes)
        return torch.stack([dense[number, :, number] for number in range(len(self.seeds))])


def trained(
    task: Task,
    make: Callable,
    steps: int,
    every: int,
    *,
    until: int | None = None,
    inside: Callable | None = None,
    after: dict[str, Callable] | None = None,
) -> dict[str, torch.Tensor]:
    """NDCG of each cut along a training, float64 [steps // every, cuts], of the table ("") and of those made of it.

    make: from (table, adjacency) to the optimizer. until: stop there, by default after all steps. inside: from the
    table to the one that the model multiplies, in training and when it is judged. after: name -> what is made of the
    trained table, to be judged too.
    """
    table = torch.nn.Parameter(task.starts.clone())
    optimizer, views = make(table, task.adjacency), {"": lambda each: each} | (after or {})
    inside, found = inside or (lambda each: each), {name: [] for name in views}
    for number, (one, neighbour, stranger) in enumerate(task.batches(steps)[:until], start=1):
        optimizer.zero_grad()
        used = inside(table)
        margin = (used[one] * (used[neighbour] - used[stranger])).sum(-1)
        # A sum over cuts of means over a cut's edges: each cut's gradient is that of its own loss.
        (functional.softplus(-margin).sum() / BATCH).backward()
        optimizer.step()
        if number % every == 0:
            for name, view in views.items():
                found[name].append(task.ranked(task.scores_of(view(inside(table.detach())))))
    return {name: torch.stack(each) for name, each in found.items()}


def untrained(task: Task, hops: int = 3) -> dict[str, torch.Tensor]:
    """NDCG of what needs no training, float64 [cuts] each.

    "walk": Ã + … + Ã^hops, walks over the known edges; "popularity": the candidate's degree; "chance": random scores.
    """
    blocks = task.blocks()
    walks = sum(torch.linalg.matrix_power(blocks, power) for power in range(1, hops + 1))
    degree = task.known.sum(1).double()
    noise = torch.rand(walks.shape, generator=torch.Generator().manual_seed(0))
    found = {"walk": walks, "popularity": degree[:, None, :].expand_as(walks), "chance": noise}
    return {name: task.ranked(scores) for name, scores in found.items()}
