"""The exercises on graphs: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.graphs import checks, gain_of_iteration, scale_of_series
from effattn_core.graphs.costs import smoothing_flops
from effattn_core.graphs.worlds import world
from kernels.graphs import launch_hop


def series(step, matrix, beta, layers):
    total = power = step
    for _ in range(layers):
        power = beta * (matrix @ power)
        total = total + power
    return (1 - beta) / (1 - beta ** (layers + 1)) * total


def rival(step, matrix, beta, layers):
    found = step
    for _ in range(layers):
        found = beta * matrix @ found + (1 - beta) * step
    return found


def in_place(step, matrix, beta, layers):
    step *= series(step, matrix, beta, layers) / step
    return step


def normalise(weights):
    weights = weights.clone().fill_diagonal_(0)
    root = weights.sum(1).rsqrt()
    root[root.isinf()] = 0
    return root[:, None] * weights * root


def looped(weights):
    root = weights.sum(1).rsqrt()
    root[root.isinf()] = 0
    return root[:, None] * weights * root


def nan_for_nobody(weights):
    weights = weights.clone().fill_diagonal_(0)
    degree = weights.sum(1)
    return weights / (degree[:, None] * degree).sqrt()


def by_row(weights):
    weights = weights.clone().fill_diagonal_(0)
    return weights / weights.sum(1, keepdim=True).clamp(min=1e-9)


def convolution(weights):
    weights = weights.clone().fill_diagonal_(1)
    root = weights.sum(1).rsqrt()
    return root[:, None] * weights * root


def correct(gradient, mean, square, steps, betas, guard=1, whole=True, frozen=False):
    absent = gradient == 0
    absent = absent.all(1, keepdim=True) if whole else absent
    before, found = max(guard, steps - 1), []
    for moment, fed, beta in ((mean, gradient, betas[0]), (square, gradient**2, betas[1])):
        fed = torch.where(absent, moment if frozen else moment / (1 - beta**before), fed)
        found.append(beta * moment + (1 - beta) * fed)
    return found


def uncorrected(gradient, mean, square, steps, betas):
    pairs = ((mean, gradient, betas[0]), (square, gradient**2, betas[1]))
    return [beta * moment + (1 - beta) * fed for moment, fed, beta in pairs]


def step(table, update, rate, decay, psi):
    return table * (1 - rate * decay) - rate * psi(update)


def hop(power, offsets, columns, values, beta):
    return launch_hop(power, power, offsets, columns, values, beta, 1.0, torch.float32, False)[0]


def short(power, offsets, columns, values, beta):
    """Takes the first 16 neighbours of a node alone."""
    place = torch.arange(len(values)) - offsets[:-1].repeat_interleave(offsets.diff())
    return hop(power, offsets, columns, values * (place < 16), beta)


@triton.jit
def copy_kernel(source, target, dim, BLOCK: tl.constexpr):
    place = tl.program_id(0) * dim + tl.arange(0, BLOCK)
    inside = tl.arange(0, BLOCK) < dim
    tl.store(target + place, tl.load(source + place, mask=inside, other=0.0), mask=inside)


def one_less(power, offsets, columns, values, beta):
    """Has no program for the last node."""
    found, (nodes, dim) = torch.empty_like(power), power.shape
    copy_kernel[(nodes - 1,)](power, found, dim, BLOCK=triton.next_power_of_2(dim))
    return found


SOLVED = {
    "graphs.alone": scale_of_series(0.99, 3), "graphs.turned": 0.5, "graphs.flops": smoothing_flops(508, 64, 3),
    "graphs.series": series, "graphs.normalise": normalise, "graphs.correct": correct, "graphs.step": step,
    "graphs.hop": hop,
}  # fmt: skip


def hop_in_torch(power, offsets, columns, values, beta):
    matrix = torch.sparse_csr_tensor(offsets.long(), columns.long(), values, (len(power), len(power)))
    return beta * (matrix.to_dense() @ power)


MISTAKES = [
    ("graphs.alone", 0.01, "the factor without rescaling"),
    ("graphs.alone", 1.0, "its hops bring 0"),
    ("graphs.alone", 1 - 0.99**4, "the first term's alone is asked"),
    ("graphs.turned", 1.0, "(1-β) - β"),
    ("graphs.turned", 0.0, "At β = 0 the step is unchanged"),
    ("graphs.flops", 97_536, "Each edge is two entries"),
    ("graphs.flops", 65_024, "That is one hop."),
    ("graphs.flops", 48_768, "Two entries per edge, and two operations"),
    ("graphs.series", lambda s, m, b, k: series(s, m, b, k) * (1 - b ** (k + 1)) / (1 - b), "sum to more than 1"),
    ("graphs.series", lambda s, m, b, k: series(s, m, b, k) * (1 - b ** (k + 1)), "That is not rescaled"),
    ("graphs.series", lambda s, m, b, k: series(s, m, b, k + 1), "one hop too many"),
    ("graphs.series", rival, "That is the iteration"),
    ("graphs.series", in_place, "The step that was given has changed"),
    ("graphs.series", lambda s, m, b, k: m, "Return the smoothed step"),
    ("graphs.series", lambda s, m, b, k: 3 * s, "it differs by"),
    (
        "graphs.series",
        lambda s, m, b, k: scale_of_series(b, k) * torch.linalg.matrix_power(b * m, k) @ s,
        "the last power alone",
    ),
    ("graphs.normalise", nan_for_nobody, "0 / 0 is not a number"),
    ("graphs.normalise", looped, "Loops are left out"),
    ("graphs.normalise", by_row, "divides by the row's degree alone"),
    ("graphs.normalise", convolution, "adds a loop to every node"),
    ("graphs.normalise", lambda weights: 2 * normalise(weights), "It differs by"),
    ("graphs.correct", lambda *given: correct(*given, guard=0), "gives nan"),
    ("graphs.correct", uncorrected, "Rows without a gradient decay as ever"),
    ("graphs.correct", lambda *given: correct(*given, whole=False), "A single 0 in a row"),
    ("graphs.correct", lambda *given: correct(*given, frozen=True), "Leaving m and v alone changes"),
    ("graphs.correct", lambda *given: [2 * each for each in correct(*given)], "must not change"),
    ("graphs.step", lambda t, u, r, d, psi: t - r * psi(u + d * t), "Decay is smoothed here"),
    ("graphs.step", lambda t, u, r, d, psi: (t - r * psi(u)) * (1 - r * d), "Decay comes first"),
    ("graphs.step", lambda t, u, r, d, psi: psi(t * (1 - r * d) - r * u), "That smooths the table"),
    ("graphs.step", lambda t, u, r, d, psi: t * (1 - r * d) - psi(u), "rate of the step is missing"),
    ("graphs.step", lambda t, u, r, d, psi: t - r * psi(u), "The decay is missing"),
    ("graphs.step", lambda t, u, r, d, psi: t * (1 - r * d) + r * psi(u), "The sign is turned"),
    ("graphs.hop", lambda p, o, c, v, b: hop(p, o, c, v, 1.0), "β is missing"),
    ("graphs.hop", lambda p, o, c, v, b: hop(p, o, c, torch.ones_like(v), b), "weights of the neighbours are missing"),
    ("graphs.hop", lambda *given: hop(*given) + given[0], "adds the node itself"),
    ("graphs.hop", short, "are all neighbours taken?"),
    ("graphs.hop", hop_in_torch, "No Triton kernel was launched"),
    ("graphs.hop", one_less, "are never written, the first at [39, 0]"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_the_numbers_that_are_asked_are_those_of_the_graphs():
    assert world("les miserables").edges.shape[1] == checks.EDGES
    assert gain_of_iteration(-1.0, 0.5, 1) == 0 and gain_of_iteration(-1.0, 0.49, 1) > 0
