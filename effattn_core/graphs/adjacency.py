"""A graph as SEvo wants it: sparse, symmetric, normalised by degree, without loops; and several graphs as one."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from effattn_core.calls import require_count, wide


@dataclass(frozen=True, eq=False)
class Adjacency:
    """Ã = D^-1/2 A D^-1/2 in compressed rows (eq. graphs-normalised). Made by `normalised`, and symmetric.

    offsets: int64 [nodes + 1], where each row begins; columns: int64 [entries], rising within a row; values: floating
    [entries]. A node without a neighbour has an empty row.
    """

    offsets: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    @property
    def nodes(self):
        return len(self.offsets) - 1

    @property
    def entries(self):
        """Stored numbers: two per pair of neighbours."""
        return len(self.columns)

    @functools.cached_property
    def rows(self):
        """The row of each entry, int64 [entries]."""
        nodes = torch.arange(self.nodes, device=self.offsets.device)
        return nodes.repeat_interleave(self.offsets.diff(), output_size=self.entries)

    def sparse(self, dtype=None):
        """As a torch sparse tensor, [nodes, nodes]."""
        places = torch.stack([self.rows, self.columns])
        values = self.values if dtype is None else self.values.to(dtype)
        shape = (self.nodes, self.nodes)
        return torch.sparse_coo_tensor(places, values, shape, is_coalesced=True, check_invariants=False)

    def dense(self, dtype=torch.float64):
        """As a matrix, [nodes, nodes]."""
        return self.sparse(dtype).to_dense()

    def times(self, matrix):
        """Ã · matrix, [nodes, columns], summed in float32 or wider."""
        dtype = wide(matrix.dtype)
        return torch.sparse.mm(self.sparse(dtype), matrix.to(dtype))

    def to(self, device):
        """The same graph on another device."""
        return Adjacency(*(each.to(device) for each in (self.offsets, self.columns, self.values)))

    def permuted(self, order):
        """The same graph with its nodes renamed: node i of the new one is node order[i] of this one."""
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        return _compressed(place[self.rows], place[self.columns], self.values, self.nodes)


def normalised(edges: torch.Tensor, weights: torch.Tensor | None = None, *, nodes: int | None = None) -> Adjacency:
    """The Adjacency of an undirected graph, in float32 unless its weights are wider (eq. graphs-normalised).

    edges: int64 [2, edges], each pair once; a pair that stands twice, in either direction, adds up. weights: [edges],
    floating and above 0, ones by default. nodes: how many, by default up to the largest that has an edge. Loops are
    left out, as in the released code. Raises ValueError.
    """
    if edges.ndim != 2 or len(edges) != 2 or edges.dtype != torch.int64:
        raise ValueError(f"edges must be int64 [2, edges]; it is {edges.dtype} {tuple(edges.shape)}.")
    largest = int(edges.max()) if edges.numel() else -1
    nodes = largest + 1 if nodes is None else nodes
    require_count("nodes", nodes, 0)
    if largest >= nodes or (edges.numel() and int(edges.min()) < 0):
        raise ValueError(f"edges must join nodes 0 to {nodes - 1}; they join {int(edges.min())} to {largest}.")
    if weights is None:
        weights = torch.ones(edges.shape[1], device=edges.device)
    if weights.shape != edges.shape[1:] or not weights.is_floating_point():
        wanted = f"weights must be floating [edges], here [{edges.shape[1]}]"
        raise ValueError(f"{wanted}; it is {weights.dtype} {tuple(weights.shape)}.")
    if not ((weights > 0) & weights.isfinite()).all():
        raise ValueError(f"weights must be finite and above 0; the least is {weights.min():g}.")
    kept = edges[0] != edges[1]
    one, other = edges[:, kept]
    summed = torch.sparse_coo_tensor(
        torch.stack([torch.cat([one, other]), torch.cat([other, one])]),
        weights[kept].to(wide(weights.dtype)).repeat(2), (nodes, nodes), check_invariants=False,
    ).coalesce()  # fmt: skip
    (rows, columns), values = summed.indices(), summed.values()
    degree = values.new_zeros(nodes).index_add_(0, rows, values)
    return _compressed(rows, columns, values * (degree[rows] * degree[columns]).rsqrt(), nodes)


def united(graphs: Sequence[Adjacency]) -> Adjacency:
    """Graphs side by side as one, without an edge between them: the nodes of the second follow those of the first."""
    if not graphs:
        raise ValueError("united needs at least one graph; it was given none.")
    before, entries, offsets, columns = 0, 0, [graphs[0].offsets[:1]], []
    for each in graphs:
        offsets.append(each.offsets[1:] + entries)
        columns.append(each.columns + before)
        before, entries = before + each.nodes, entries + each.entries
    return Adjacency(torch.cat(offsets), torch.cat(columns), torch.cat([each.values for each in graphs]))


def _compressed(rows, columns, values, nodes):
    order = (rows * nodes + columns).argsort()
    counts = rows.bincount(minlength=nodes)
    return Adjacency(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), columns[order], values[order])
