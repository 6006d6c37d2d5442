"""Factor graphs: sum over everything by enumeration, and by messages (loopy belief propagation).

A distribution over labels x_1 … x_n is a product of factors, each a table over a few of them. Source: the abstract of
JOCL (SIGMOD 2021, arXiv 2212.01207) names factor graph and loopy belief propagation; the formulas are the textbook's.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Factor:
    """variables: the numbers of those it joins; table: its logarithm, a dimension for each of them, in order."""

    variables: tuple[int, ...]
    table: torch.Tensor


@dataclass(frozen=True)
class Graph:
    """sizes: how many labels each variable has; factors: a sequence of Factor.

    Raises ValueError for a factor whose table does not have the sizes of its variables.
    """

    sizes: tuple[int, ...]
    factors: tuple[Factor, ...]

    def __post_init__(self):
        for factor in self.factors:
            if len(set(factor.variables)) < len(factor.variables):
                raise ValueError(f"a factor names each variable once; it was given {factor.variables}.")
            wanted = tuple(self.sizes[each] for each in factor.variables)
            if tuple(factor.table.shape) != wanted:
                raise ValueError(
                    f"the factor over {factor.variables} needs a table of {wanted}; it has {tuple(factor.table.shape)}."
                )


@dataclass(frozen=True)
class Beliefs:
    """What propagation found. variables: for each variable its belief, float64 [size]; factors: for each factor its
    joint belief; log_partition: Bethe's; residual: the largest change of a message in the last sweep; sweeps: how many
    were made; course: the variables' beliefs after each sweep."""

    variables: list[torch.Tensor]
    factors: list[torch.Tensor]
    log_partition: float
    residual: float
    sweeps: int
    course: list[list[torch.Tensor]]


def enumerated(graph: Graph) -> tuple[float, list[torch.Tensor]]:
    """(log Z, the marginal of each variable, float64) by a sum over all labellings (eq. discrete-factors)."""
    joint = torch.zeros(graph.sizes, dtype=torch.float64)
    for factor in graph.factors:
        order = sorted(range(len(factor.variables)), key=lambda place: factor.variables[place])
        shape = [size if each in factor.variables else 1 for each, size in enumerate(graph.sizes)]
        joint = joint + factor.table.double().permute(order).reshape(shape)
    log_partition = joint.logsumexp(tuple(range(joint.ndim)))
    share = (joint - log_partition).exp()
    others = [[each for each in range(joint.ndim) if each != kept] for kept in range(joint.ndim)]
    return log_partition.item(), [share.sum(each) if each else share for each in others]


def propagated(graph: Graph, *, damping: float = 0.0, sweeps: int = 200, tolerance: float = 1e-9) -> Beliefs:
    """Beliefs by messages that all factors send at once, sweep after sweep (eq. discrete-message); float64.

    A message of factor f to variable v is its table, plus what its other variables have heard from their other factors,
    summed over those others. damping: the share of the old message, logarithm, that stays, in [0, 1). It stops when no
    message changes by more than `tolerance`, or after `sweeps`: look at `residual`, for beliefs look alike either way.
    """
    if not 0 <= damping < 1:
        raise ValueError(f"damping must lie in [0, 1); it is {damping}.")
    edges = [(number, variable) for number, factor in enumerate(graph.factors) for variable in factor.variables]
    message = {edge: torch.zeros(graph.sizes[edge[1]], dtype=torch.float64) for edge in edges}
    course, residual, made = [], float("inf"), 0
    while made < sweeps and residual > tolerance:
        fresh, heard = {}, _heard(graph, message)
        for number, factor in enumerate(graph.factors):
            whole = _gathered(factor, number, heard, message)
            for place, variable in enumerate(factor.variables):
                others = [each for each in range(whole.ndim) if each != place]
                sent = (whole.logsumexp(others) if others else whole) - (heard[variable] - message[number, variable])
                old = message[number, variable]
                fresh[number, variable] = (1 - damping) * (sent - sent.logsumexp(0)) + damping * old
        residual = max((fresh[edge] - message[edge]).abs().max().item() for edge in edges)
        message, made = fresh, made + 1
        course.append([each.softmax(0) for each in _heard(graph, message)])
    heard = _heard(graph, message)
    joint = [_gathered(factor, number, heard, message) for number, factor in enumerate(graph.factors)]
    joint = [(each - each.logsumexp(tuple(range(each.ndim)))).exp() for each in joint]
    beliefs = [each.softmax(0) for each in heard]
    return Beliefs(beliefs, joint, bethe(graph, beliefs, joint), residual, made, course)


def bethe(graph: Graph, variables, factors) -> float:
    """log Z of beliefs: Σ_f Σ b_f (θ_f - ln b_f) + Σ_v (deg_v - 1) Σ b_v ln b_v (eq. discrete-bethe).

    Exact on a tree at convergence. variables, factors: beliefs that sum to 1, one tensor for each.
    """
    degree = [sum(each in factor.variables for factor in graph.factors) for each in range(len(graph.sizes))]
    energy = sum(
        (belief * factor.table.double()).sum() - torch.xlogy(belief, belief).sum()
        for factor, belief in zip(graph.factors, factors, strict=True)
    )
    counted = sum((d - 1) * torch.xlogy(belief, belief).sum() for d, belief in zip(degree, variables, strict=True))
    return float(energy + counted)


def _heard(graph, message):
    """For each variable the sum of all messages to it, not normalised."""
    heard = [torch.zeros(size, dtype=torch.float64) for size in graph.sizes]
    for (_, variable), sent in message.items():
        heard[variable] = heard[variable] + sent
    return heard


def _gathered(factor, number, heard, message):
    """A factor's table plus what each of its variables has heard from its other factors."""
    whole = factor.table.double()
    for place, variable in enumerate(factor.variables):
        shape = [-1 if each == place else 1 for each in range(whole.ndim)]
        whole = whole + (heard[variable] - message[number, variable]).view(shape)
    return whole


def ring(coupling: float, *, frustrated: bool = True, field: float = 0.3) -> Graph:
    """Three binary variables in a ring; neighbours differ (or, not frustrated, agree) by preference `coupling`.

    An odd ring of variables that all want to differ cannot please every pair. field: the first one's own preference.
    """
    sign = -1.0 if frustrated else 1.0
    table = sign * coupling * torch.eye(2, dtype=torch.float64)
    unary = [Factor((each,), torch.tensor([0.0, field * (each == 0)], dtype=torch.float64)) for each in range(3)]
    return Graph((2, 2, 2), (*unary, *(Factor((each, (each + 1) % 3), table) for each in range(3))))
