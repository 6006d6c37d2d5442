"""The exercises on discrete: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.discrete import checks  # noqa: F401  (it registers the exercises)
from effattn_core.discrete.activations import PRODUCT, mean_slope
from effattn_core.discrete.factors import bethe
from effattn_core.exercises import EXERCISES
from kernels.discrete import launch_sweep

VANISH = mean_slope(PRODUCT, 64)


def graft(hard, soft):
    return hard.detach() + (soft - soft.detach())


def logsum(violated, weight, grad):
    rest = 1 - weight
    inputs = torch.where(violated > 0.5, grad @ (weight / rest).mT, grad @ weight.mT)
    return violated @ -rest.log(), inputs, violated.mT @ grad / rest


def autograd_of_the_product(violated, weight, grad):
    total, _, slope = logsum(violated, weight, grad)
    return total, grad @ -(1 - weight).log().mT, slope


def as_if_all_were_violated(violated, weight, grad):
    total, _, slope = logsum(violated, weight, grad)
    return total, grad @ (weight / (1 - weight)).mT, slope


def of_the_logarithm_alone(violated, weight, grad):
    total, inputs, _ = logsum(violated, weight, grad)
    return total, inputs, violated.mT @ grad


def counted_of_the_product(violated, weight, grad):
    total, inputs, slope = logsum(violated, weight, grad)
    return violated @ weight, inputs, slope


def readout(truth, votes, bias):
    share = truth.mean(0)
    kept = [rule for rule, each in enumerate(share) if 0 < each < 1]
    return kept, bias + votes[share == 1].sum()


def all_rules(truth, votes, bias):
    return list(range(len(votes))), bias


def counted_twice(truth, votes, bias):
    return [rule for rule, share in enumerate(truth.mean(0)) if share > 0], readout(truth, votes, bias)[1]


def sweep(violated, weight):
    return launch_sweep(violated, weight, 0.9, 3.0, False)


def first_block(violated, weight):
    """Takes the first 64 literals alone."""
    return sweep(violated[:, :64], weight[:64])


@triton.jit
def element_kernel(violated, weight, total, hard, n, nodes, LANES: tl.constexpr, OTHER: tl.constexpr):
    """One program per sum. OTHER: what stands for the weights of literals past the last."""
    row, node, each = tl.program_id(0), tl.program_id(1), tl.arange(0, LANES)
    u = tl.load(violated + row * n + each, mask=each < n, other=0).to(tl.float32)
    w = tl.load(weight + each * nodes + node, mask=each < n, other=OTHER)
    tl.store(total + row * nodes + node, tl.sum(-tl.log(1 - w) * u, 0))
    tl.store(hard + row * nodes + node, (tl.sum(tl.where(w > 0.5, u, 0.0), 0) < 0.5).to(tl.uint8))


def filled_with_ones(violated, weight):
    """0 times the logarithm of 0, where a literal outside has the weight 1."""
    (rows, n), nodes = violated.shape, weight.shape[1]
    total, hard = weight.new_empty(rows, nodes), violated.new_empty(rows, nodes)
    lanes = triton.next_power_of_2(n)
    element_kernel[(rows, nodes)](violated, weight, total, hard, n, nodes, LANES=lanes, OTHER=1.0)
    return total, hard


def turned(place):
    """The sweep with one of its two answers turned."""

    def mistake(violated, weight):
        found = list(sweep(violated, weight))
        found[place] = -found[0] if place == 0 else 1 - found[1]
        return found

    return mistake


def of_all_weights(violated, weight):
    return sweep(violated, weight)[0], ((violated.float() @ weight) < 0.5).to(torch.uint8)


def entropies(graph, variables, factors):
    """(Σ b (θ - ln b) over factors, Σ (deg - 1) b ln b over variables)."""
    whole = sum(
        (b * f.table).sum() - torch.xlogy(b, b).sum() for b, f in zip(factors, graph.factors, strict=True)
    )  # fmt: skip
    return whole, bethe(graph, variables, factors) - whole


def wrong_sign(*given):
    whole, counted = entropies(*given)
    return whole - counted


SOLVED = {
    "discrete.vanish": VANISH, "discrete.graft": graft, "discrete.logsum": logsum, "discrete.readout": readout,
    "discrete.sweep": sweep, "discrete.cut": (0.96, 0.71), "discrete.missing": 8 / 9, "discrete.bethe": bethe,
}  # fmt: skip
MISTAKES = [
    ("discrete.vanish", 2 * VANISH, "which half do: a factor of ½ is missing"),
    ("discrete.vanish", 0.875 * VANISH, "One factor too many"),
    ("discrete.vanish", 0.5 * 0.75**63, "half do not, and give 1"),
    ("discrete.graft", lambda hard, soft: soft, "That is the soft value"),
    ("discrete.graft", lambda hard, soft: hard, "No gradient comes back"),
    ("discrete.graft", lambda hard, soft: (hard + soft) - soft.detach(), "off in the last digit"),
    ("discrete.graft", lambda hard, soft: hard.detach() + soft, "Forward must be the hard value"),
    ("discrete.graft", lambda hard, soft: graft(hard, 2 * soft), "the soft one's, once"),
    ("discrete.graft", lambda hard, soft: hard + (soft - soft.detach()), "into the hard tensor too"),
    ("discrete.graft", lambda hard, soft: 0.0, "Return a tensor of the shape"),
    ("discrete.logsum", autograd_of_the_product, "That is the product's own slope"),
    ("discrete.logsum", as_if_all_were_violated, "W where u is 0, W / (1 - W) where u is 1"),
    ("discrete.logsum", of_the_logarithm_alone, "The gradient of W differs"),
    ("discrete.logsum", counted_of_the_product, "S differs"),
    ("discrete.logsum", lambda *given: logsum(*given)[0], "Return three tensors"),
    ("discrete.readout", counted_twice, "counts twice"),
    ("discrete.readout", lambda *given: (readout(*given)[0], given[2]), "its vote belongs into the bias"),
    ("discrete.readout", all_rules, "is still printed"),
    ("discrete.readout", lambda *given: ([0], 0.0), "do not give the net's logits"),
    ("discrete.readout", lambda *given: 0, "Return the numbers of the rules"),
    ("discrete.sweep", first_block, "does the loop reach those inputs that no block divides"),
    ("discrete.sweep", turned(0), "the sign of the sum is turned"),
    ("discrete.sweep", turned(1), "the hard answer is turned"),
    ("discrete.sweep", of_all_weights, "count u where W is above a half"),
    ("discrete.sweep", filled_with_ones, "fill what lies outside with 0"),
    ("discrete.sweep", lambda u, w: sweep(u, w)[0], "return 2 tensors (sum, hard answer)"),
    ("discrete.cut", (0.96, 1.7), "Two accuracies are asked"),
    ("discrete.cut", (0.6, 0.5), "has not learned yet"),
    ("discrete.cut", (0.9, 0.95), "have you changed the two"),
    ("discrete.missing", 0.5, "That is SAT's"),
    ("discrete.missing", 7 / 8, "has all eight relations as negatives"),
    ("discrete.bethe", wrong_sign, "it is added"),
    ("discrete.bethe", lambda *given: entropies(*given)[0], "counted several times"),
    ("discrete.bethe", lambda *given: 1 + bethe(*given), "It differs by 1"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)


def test_every_exercise_has_a_solution_and_a_mistake():
    names = {name for name in EXERCISES if name.startswith("discrete.")}
    assert names == set(SOLVED) == {name for name, *_ in MISTAKES}
