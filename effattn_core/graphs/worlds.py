"""Small graphs of real people and books that networkx brings along: as tensors, and cut for link prediction."""

from dataclasses import dataclass

import torch

from effattn_core.graphs.adjacency import normalised

# name -> (function of networkx, what a node and an edge are, its source)
GRAPHS = {
    "karate": ("karate_club_graph", "members of a karate club, seen together outside it", "Zachary 1977"),
    "les miserables": ("les_miserables_graph", "characters of Les Misérables, met in a chapter", "Knuth 1993"),
    "davis": ("davis_southern_women_graph", "women and the events that they went to", "Davis et al. 1941"),
    "florentine": (
        "florentine_families_graph",
        "families of Florence, joined by marriage",
        "Breiger and Pattison 1986",
    ),
}
HELD_OUT = 0.2  # of the edges


@dataclass(frozen=True)
class World:
    """A graph. edges: int64 [2, edges], each once; weights: float64 [edges]; names: of the nodes.

    side: bool [nodes], which of two kinds a node is; None where all are of one kind.
    """

    edges: torch.Tensor
    weights: torch.Tensor
    names: tuple[str, ...]
    side: torch.Tensor | None

    @property
    def nodes(self):
        return len(self.names)

    @property
    def adjacency(self):
        return normalised(self.edges, self.weights, nodes=self.nodes)


def world(name: str) -> World:
    """A World by its name in GRAPHS. Raises ValueError for another."""
    if name not in GRAPHS:
        raise ValueError(f"name must be one of {', '.join(GRAPHS)}; it is {name!r}.")
    import networkx  # PyTorch depends on it, and loads it as late

    graph = getattr(networkx, GRAPHS[name][0])()
    place = {node: number for number, node in enumerate(graph)}
    edges = torch.tensor([[place[one], place[other]] for one, other in graph.edges], dtype=torch.int64).T.contiguous()
    weights = torch.tensor([float(told.get("weight", 1)) for _, _, told in graph.edges(data=True)]).double()
    kinds = [told.get("bipartite") for _, told in graph.nodes(data=True)]
    side = None if None in kinds else torch.tensor(kinds, dtype=torch.bool)
    return World(edges, weights, tuple(map(str, graph)), side)


def cut(found: World, seed: int, held_out: float = HELD_OUT) -> tuple[World, torch.Tensor]:
    """(the world without a share of its edges, those edges [2, edges]), drawn by `seed`.

    An edge whose loss would leave one of its ends without any is kept.
    """
    generator = torch.Generator().manual_seed(seed)
    degree = found.edges.flatten().bincount(minlength=found.nodes)
    wanted, out = round(held_out * found.edges.shape[1]), []
    for edge in torch.randperm(found.edges.shape[1], generator=generator).tolist():
        ends = found.edges[:, edge]
        if len(out) < wanted and (degree[ends] > 1).all():
            out.append(edge)
            degree[ends] -= 1
    kept = torch.ones(found.edges.shape[1], dtype=torch.bool)
    kept[out] = False
    rest = World(found.edges[:, kept], found.weights[kept], found.names, found.side)
    return rest, found.edges[:, ~kept]
