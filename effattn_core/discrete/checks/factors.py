"""The hidden cases of the exercises on masks, messages and margins."""

import torch

from effattn_core.discrete.factors import Factor, Graph, bethe, propagated, ring
from effattn_core.exercises import compare_number, exercise


@exercise("discrete.missing", level="pencil")
def missing(answer):
    """The chance of a missing label at which MeanSAT turns, eight relations."""
    return compare_number(
        answer, 8 / 9, [(0.5, "That is SAT's. A mean over eight negatives pushes each down by an eighth only."),
                        (7 / 8, "A row without a label has all eight relations as negatives: (1-μ) = μ / 8.")],
    )  # fmt: skip


@exercise("discrete.bethe", level="code")
def bethe_of(function):
    """`function(graph, variables, factors)`: Bethe's log Z of beliefs."""
    generator = torch.Generator().manual_seed(3)
    pair, three = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((2, 3), (3, 2, 2)))
    tree = Graph((2, 3, 2, 2), (Factor((0, 1), pair), Factor((1, 2, 3), three)))
    for graph in (tree, ring(1.0)):
        found = propagated(graph, damping=0.5)
        right = bethe(graph, found.variables, found.factors)
        answer = float(function(graph, found.variables, found.factors))
        if abs(answer - right) < 1e-6:
            continue
        energy = sum((b * f.table).sum().item() for b, f in zip(found.factors, graph.factors, strict=True))
        entropy = -sum(torch.xlogy(b, b).sum().item() for b in found.factors)
        if abs(answer - (2 * (energy + entropy) - right)) < 1e-6:
            return "The sign of the (deg - 1) term: its b ln b is negative already, and it is added."
        if abs(answer - energy - entropy) < 1e-6:
            return "Variables in several factors are counted several times: add Σ (deg - 1) Σ b ln b."
        return f"It differs by {abs(answer - right):.2g}."
    return None
