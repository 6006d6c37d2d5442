"""The hidden cases of the exercises on rule nets."""

import torch

from effattn_core.discrete.activations import LAF, PRODUCT, hard_conjunction, mean_slope, total_violation
from effattn_core.exercises import compare_number, exercise
from effattn_core.judging import Case, kernel_exercise
from kernels import runtime

INPUTS = 64


@exercise("discrete.vanish", level="pencil")
def vanish(answer):
    """The mean slope of the product for one weight at the start, 64 inputs."""
    return compare_number(
        answer,
        mean_slope(PRODUCT, INPUTS),
        [
            (0.875 ** (INPUTS - 1), "The weight's own input must violate, which half do: a factor of ½ is missing."),
            (0.5 * 0.875**INPUTS, "One factor too many: the derivative takes the weight's own factor out, 63 stay."),
            (0.5 * 0.75 ** (INPUTS - 1), "3/4 is the factor of an input that violates; half do not, and give 1."),
        ],
        within=0.05,
    )


@exercise("discrete.graft", level="code")
def graft(function):
    """`function(hard, soft)`: the value of hard to the bit, the gradient of soft."""
    dice = torch.Generator().manual_seed(3)
    weight = torch.rand(64, 64, generator=dice).requires_grad_()
    soft = weight**3
    hard = (weight > 0.5).float()
    found = function(hard, soft)
    if not isinstance(found, torch.Tensor) or found.shape != hard.shape:
        return "Return a tensor of the shape of the hard one."
    if torch.equal(found, soft):
        return "That is the soft value: forward must be hard."
    if not found.requires_grad:
        return "No gradient comes back: the soft tensor must stay in the graph."
    if not torch.equal(found, hard):
        if torch.allclose(found, hard):
            return "It is off in the last digit, so that tests like > 0 flip: subtract the soft parts first."
        return "Forward must be the hard value."
    (slope,) = torch.autograd.grad((found * hard).sum(), weight)
    if not torch.allclose(slope, 3 * weight.detach() ** 2 * hard):
        return "The gradient must be the soft one's, once, by the gradient that comes in."
    second = torch.ones(4, requires_grad=True)
    (leak,) = torch.autograd.grad(function(second, 2 * second).sum(), second)
    if not torch.allclose(leak, torch.full_like(leak, 2.0)):
        return "A gradient goes into the hard tensor too: detach it."
    return None


@exercise("discrete.logsum", level="code")
def logsum(function):
    """`function(violated, weight, grad)`: (S, gradient of u, gradient of W) of S = -Σ ln(1 - W u), u of 0 or 1."""
    for seed, (rows, n, nodes) in enumerate(((5, 7, 3), (1, 1, 1), (9, 2, 6))):
        dice = torch.Generator().manual_seed(seed)
        violated = (torch.rand(rows, n, generator=dice) < 0.5).double().requires_grad_()
        weight = (0.9 * torch.rand(n, nodes, generator=dice, dtype=torch.float64)).requires_grad_()
        grad = torch.randn(rows, nodes, generator=dice, dtype=torch.float64)
        total = total_violation(violated, weight, LAF)
        wanted = (total.detach(), *torch.autograd.grad(total, (violated, weight), grad))
        found = function(violated.detach(), weight.detach(), grad)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            return "Return three tensors: S, the gradient of u, the gradient of W."
        if not torch.allclose(found[0], wanted[0]):
            return "S differs: it is u @ -ln(1 - W)."
        if not torch.allclose(found[2], wanted[2]):
            return "The gradient of W differs: uᵀ grad / (1 - W)."
        if torch.allclose(found[1], wanted[1]):
            continue
        if torch.allclose(found[1], grad @ -(1 - weight.detach()).log().mT):
            return "That is the product's own slope, -ln(1 - W): of -ln(1 - W u) it is W / (1 - W u)."
        return "The gradient of u differs: W where u is 0, W / (1 - W) where u is 1: two products."
    return None


@exercise("discrete.readout", level="code")
def readout(function):
    """`function(truth, votes, bias)`: (numbers of the rules kept, new bias); votes: class 1 less class 0."""
    dice = torch.Generator().manual_seed(1)
    truth = (torch.rand(12, 6, generator=dice) < 0.5).double()
    truth[:, 1], truth[:, 4] = 1, 0
    votes = torch.randn(6, generator=dice, dtype=torch.float64)
    found = function(truth.clone(), votes.clone(), 0.5)
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        return "Return the numbers of the rules that are kept, and the new bias."
    kept, bias = list(map(int, found[0])), float(found[1])
    said = bias + truth[:, kept] @ votes[kept]
    if torch.allclose(said, 0.5 + truth @ votes):
        if kept != [0, 2, 3, 5]:
            return "The logits are right, but a rule that is always or never true is still printed."
        return None
    if 1 in kept and abs(bias - 0.5 - votes[1]) < 1e-9:
        return "The rule that is always true counts twice: it is kept, and folded into the bias as well."
    if 1 not in kept and abs(bias - 0.5) < 1e-9:
        return "The rule that is always true is dropped: its vote belongs into the bias."
    return "The rules that are kept and the bias do not give the net's logits."


@kernel_exercise("discrete.sweep")
def sweep():
    """`function(violated, weight)`: (S of LAF in float32, hard AND as uint8), by one sweep over the weights."""

    def case(seed, rows, n, nodes):
        dice = torch.Generator().manual_seed(seed)
        violated = (torch.rand(rows, n, generator=dice) < 0.1).to(runtime.device(), torch.uint8)
        weight = (0.9 * torch.rand(n, nodes, generator=dice)).to(violated.device)
        total = total_violation(violated, weight, LAF).float()
        hard = hard_conjunction(1 - violated.float(), weight).to(torch.uint8)
        count = "the hard answer differs: count u where W is above a half, and ask whether it is 0."
        mistakes = [
            ((-total, None), "the sign of the sum is turned: S is -ln(1 - W), summed."),
            ((total, 1 - hard), "the hard answer is turned: 1 where no literal is violated."),
            ((total, None), count),
        ]
        what = f"violated [{rows}, {n}] and weight [{n}, {nodes}]"
        says = dict(
            hint="does the loop reach those inputs that no block divides?",
            nan="some sums are not numbers: fill what lies outside with 0.",
            names=("sum", "hard answer"),
        )
        return Case(what, (violated, weight), (total, hard), mistakes=mistakes, **says)

    sizes = (16, 16, 16), (5, 70, 3), (33, 17, 40), (20, 8, 3)  # the last has tiles below each other alone
    return [case(seed, *each) for seed, each in enumerate(sizes)]


@exercise("discrete.cut", level="open")
def cut(answer):
    """(accuracy of the soft net, accuracy after the cut) of a net trained softly by the reader."""
    if not isinstance(answer, tuple) or len(answer) != 2 or not all(0 <= each <= 1 for each in answer):
        return "Two accuracies are asked, soft and then hard, each from 0 to 1."
    if answer[0] < 0.8:
        return "The soft net has not learned yet: train it for more steps."
    if answer[1] > answer[0] + 0.02:
        return "The cut net is better than the soft one: have you changed the two, or grafted?"
    return None
