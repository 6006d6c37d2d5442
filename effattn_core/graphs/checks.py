"""The hidden cases of the exercises on graphs."""

import torch

from effattn_core.exercises import compare_number, exercise, known_mistake
from effattn_core.graphs.adjacency import normalised
from effattn_core.graphs.costs import smoothing_flops
from effattn_core.graphs.forms import iterated, oracle, scale_of_series
from effattn_core.judging import Case, kernel_exercise, random

BETA, HOPS = 0.99, 3
EDGES, DIM = 254, 64  # of Les Misérables; numbers per node


@exercise("graphs.alone", level="pencil")
def alone(answer):
    """By what the step of a node without neighbours is multiplied, beta 0.99, three hops."""
    return compare_number(
        answer,
        scale_of_series(BETA, HOPS),
        [
            (1 - BETA, "That is the factor without rescaling: (1-β). Weights 1, β, β², β³ are to sum to 1."),
            (1, "Only where neighbours agree the sum comes back to 1. This node has none: its hops bring 0."),
            (1 - BETA**4, "That is the share of the weights that four terms have; the first term's alone is asked."),
        ],
    )


@exercise("graphs.turned", level="pencil")
def turned(answer):
    """The beta from which one hop of the iteration turns the eigenvector of -1."""
    return compare_number(
        answer,
        0.5,
        [
            (1, "The series is safe for every β below 1; the iteration's gain at λ = -1 is (1-β) - β."),
            (0, "At β = 0 the step is unchanged. Where does (1-β) + βλ reach 0 for λ = -1?"),
        ],
    )


@exercise("graphs.flops", level="pencil")
def flops(answer):
    """Operations that three hops over 254 edges add, 64 numbers per node."""
    right = smoothing_flops(2 * EDGES, DIM, HOPS)
    return compare_number(
        answer,
        right,
        [
            (right / 2, "Each edge is two entries of the matrix, or each entry a multiplication *and* an addition."),
            (right / HOPS, "That is one hop."),
            (right / 4, "Two entries per edge, and two operations per entry and number."),
        ],
    )


def _random(seed, nodes=9):
    """A graph with a node without neighbours, its dense matrix, and a step."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, nodes - 1, (2, 14), generator=generator)
    adjacency = normalised(edges, 0.1 + torch.rand(14, dtype=torch.float64, generator=generator), nodes=nodes)
    return adjacency, adjacency.dense(), torch.randn(nodes, 3, dtype=torch.float64, generator=generator)


@exercise("graphs.series", level="code")
def series(function):
    """`function(step, matrix, beta, layers)`: ψ(step) with a dense Ã."""
    for seed, (beta, layers) in enumerate(((0.5, 1), (0.9, 3), (0.99, 4), (0.7, 0))):
        adjacency, matrix, step = _random(seed)
        wanted = oracle(step, adjacency, beta, layers)
        given = step.clone()
        found = function(given, matrix, beta, layers)
        if not isinstance(found, torch.Tensor) or found.shape != step.shape:
            return f"Return the smoothed step, {tuple(step.shape)}."
        if not torch.equal(given, step):
            return "The step that was given has changed: begin with a copy, or do not add in place."
        if torch.allclose(found, wanted):
            continue
        scale = scale_of_series(beta, layers)
        last = torch.linalg.matrix_power(beta * matrix, layers) @ step
        mistakes = (
            (wanted / scale, "The sum is right; its weights sum to more than 1: multiply by (1-β) / (1-β^(L+1))."),
            (wanted / scale * (1 - beta), "That is not rescaled: its weights sum to 1-β^(L+1), and steps are short."),
            (scale * last, "That is the last power alone: sum all of them, the step itself too."),
            (iterated(step, adjacency, beta, layers), "That is the iteration, whose gains turn negative."),
            (oracle(step, adjacency, beta, layers + 1), "That is one hop too many: the step itself is the 0-th power."),
        )
        return (
            known_mistake(found, mistakes)
            or f"With beta {beta} and {layers} hops it differs by {(found - wanted).abs().max():.2g}."
        )
    return None


@exercise("graphs.normalise", level="code")
def normalise(function):
    """`function(weights)`: Ã of a dense symmetric matrix of weights."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        edges = torch.randint(0, 6, (2, 9), generator=generator)
        drawn = 0.5 + torch.rand(9, dtype=torch.float64, generator=generator)
        weights = torch.zeros(7, 7, dtype=torch.float64).index_put_(tuple(edges), drawn, accumulate=True)
        weights = weights + weights.T
        looped = weights.clone()
        weights.fill_diagonal_(0)
        wanted = _by_degree(weights)
        found = function(looped.clone())
        if not isinstance(found, torch.Tensor) or found.shape != weights.shape:
            return "Return a matrix of the size of the weights."
        if found.isnan().any():
            return "A node without neighbours has degree 0, and 0 / 0 is not a number: its row is 0."
        if torch.allclose(found, wanted):
            continue
        if torch.allclose(found, _by_degree(looped)):
            return "Loops are left out: set the diagonal to 0 before degrees are counted."
        if torch.allclose(found, _by_degree(weights + torch.eye(7))):
            return "That adds a loop to every node, as graph convolutions do; SEvo has none."
        if torch.allclose(found, weights / weights.sum(1, keepdim=True).clamp(min=1e-9)):
            return "That divides by the row's degree alone: it is not symmetric. Each side gives a root: √d_i √d_j."
        return f"It differs by {(found - wanted).abs().max():.2g}: w_ij / √(d_i d_j), with d the row sums."
    return None


def _by_degree(weights):
    degree = weights.sum(1)
    return weights / (degree[:, None] * degree).sqrt().clamp(min=1e-30)


@exercise("graphs.correct", level="code")
def correct(function):
    """`function(gradient, mean, square, steps, betas)`: both moments after step `steps` (from 1), rows corrected."""
    betas, generator = (0.9, 0.99), torch.Generator().manual_seed(0)
    mean = square = torch.zeros(5, 3, dtype=torch.float64)
    for steps in range(1, 6):
        gradient = torch.randn(5, 3, dtype=torch.float64, generator=generator)
        gradient[steps % 5] = 0
        gradient[(steps + 1) % 5, 0] = 0  # one number of a row that has a gradient
        wanted, by_number, plain = (_moments(gradient, mean, square, steps, betas, kind) for kind in ("row", "all", ""))
        found = function(gradient.clone(), mean.clone(), square.clone(), steps, betas)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            return "Return two tensors: the moments of the gradient and of its square."
        if any(each.isnan().any() for each in found):
            return f"Step {steps} gives nan: before the first step nothing is there to be corrected, so max(1, t-1)."
        if all(map(torch.allclose, found, wanted)):
            mean, square = wanted
            continue
        if all(map(torch.allclose, found, plain)):
            return "Rows without a gradient decay as ever: feed them m̂ and v̂ in place of 0."
        if all(map(torch.allclose, found, by_number)):
            return "A single 0 in a row that has a gradient is a gradient: ask whether the whole row is 0."
        absent = (gradient == 0).all(1)
        kept = zip(found, (mean, square), strict=True)
        if steps > 1 and all(torch.allclose(each[absent], old[absent]) for each, old in kept):
            return "Leaving m and v alone changes m̂ and v̂: the bias correction goes on with the step."
        return f"At step {steps} they differ; m̂ = m / (1-β^t) of a row without a gradient must not change."
    return None


def _moments(gradient, mean, square, steps, betas, kind):
    """Both moments after a step; kind: "row" for the paper's correction, "all" for every 0, "" for none."""
    absent = gradient == 0
    if kind == "row":
        absent = absent.all(1, keepdim=True)
    before, found = max(1, steps - 1), []
    for moment, fed, beta in ((mean, gradient, betas[0]), (square, gradient**2, betas[1])):
        fed = torch.where(absent, moment / (1 - beta**before), fed) if kind else fed
        found.append(beta * moment + (1 - beta) * fed)
    return found


@exercise("graphs.step", level="code")
def step(function):
    """`function(table, update, rate, decay, psi)`: the table after the step; psi smooths [nodes, dim]."""
    adjacency, _, update = _random(5)
    table = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def psi(given):
        return oracle(given, adjacency, 0.9, 3)

    rate, decay = 0.1, 0.5
    found = function(table.clone(), update.clone(), rate, decay, psi)
    wanted = table * (1 - rate * decay) - rate * psi(update)
    if not isinstance(found, torch.Tensor) or found.shape != table.shape:
        return f"Return the table, {tuple(table.shape)}."
    if torch.allclose(found, wanted):
        return None
    mistakes = (
        (table - rate * psi(update + decay * table), "Decay is smoothed here: it belongs outside of ψ."),
        ((table - rate * psi(update)) * (1 - rate * decay), "Decay comes first, and does not shrink the step."),
        (psi(table * (1 - rate * decay) - rate * update), "That smooths the table. ψ is for the step alone."),
        (table * (1 - rate * decay) - psi(update), "The learning rate of the step is missing."),
        (table - rate * psi(update), "The decay is missing: E (1 - ηλ)."),
        (table * (1 - rate * decay) + rate * psi(update), "The sign is turned: a step is taken off."),
    )
    return known_mistake(found, mistakes) or f"It differs by {(found - wanted).abs().max():.2g}: E (1 - ηλ) - η ψ(Δ)."


@kernel_exercise("graphs.hop")
def hop():
    """`function(power, offsets, columns, values, beta)`: β Ã power, float32 [nodes, dim]."""
    from kernels.graphs import cases, compressed

    def case(name, neighbours, dim, beta=0.9):
        power = random(len(neighbours), dim)
        offsets, columns, values = (each.to(power.device) for each in compressed(neighbours))
        place = torch.arange(len(neighbours), device=power.device).repeat_interleave(offsets.diff()), columns
        weights, linked = torch.zeros(2, len(neighbours), len(neighbours), dtype=torch.float64, device=power.device)
        weights[place], linked[place], source = values.double(), 1.0, power.double()
        hopped = weights @ source
        mistakes = [
            (hopped, "β is missing."),
            (beta * linked @ source, "the weights of the neighbours are missing: values holds one per entry."),
            (beta * hopped + source, "that adds the node itself: a hop takes from neighbours alone."),
        ]
        mistakes = [(result.float(), sentence) for result, sentence in mistakes]
        arguments, hint = (power, offsets, columns, values, beta), "are all neighbours taken?"
        what = f"{name}, {dim} numbers per node"
        return Case(what, arguments, (beta * hopped).float(), mistakes=mistakes, hint=hint)

    return [case(*graph, dim) for graph in cases().items() for dim in (4, 70)]
