"""Five ways to send a gradient to a weight that is cut at a half. Each is one layer of rules.

inputs [rows, n], weight [n, nodes] -> truth [rows, nodes].

soft      forward soft; cut after training
random    forward soft, but a random share of the weights already cut, without gradient (Random Binarisation)
straight  forward hard; the gradient of the product at the cut weights, passed to the uncut ones (STE)
grafted   forward hard; the gradient of the soft layer, at the hard input (hierarchical Gradient Grafting)
single    the same for a whole net: hard logits forward, the gradient of the whole soft net (see nets.py)
"""

import torch
from torch import nn

from effattn_core.discrete.activations import FLOOR, hard_conjunction, require

ESTIMATORS = ("soft", "random", "straight", "grafted", "single")


def graft(hard, soft):
    """The value of `hard`, to the bit, with the gradient of `soft`     (eq. discrete-graft).

    The order of the operations matters: (hard + soft) - soft.detach() is off in the last digit.
    """
    return hard.detach() + (soft - soft.detach())


class LogSum(torch.autograd.Function):
    """S = u · (-ln(1 - W)) for u of 0 or 1: LAF's broadcast is a matrix product there (eq. discrete-gemm).

    The slopes are those of -ln(1 - W u), not of the product: 1/(1-W) for a weight; for an input W/(1 - W u), which is
    W where u is 0 and W/(1-W) where u is 1.
    """

    @staticmethod
    def forward(ctx, violated, weight):
        rest = (1 - weight).clamp(min=FLOOR)
        ctx.save_for_backward(violated, weight, rest)
        return violated @ -rest.log()

    @staticmethod
    def backward(ctx, grad):
        violated, weight, rest = ctx.saved_tensors
        at_violated = at_weight = None
        if ctx.needs_input_grad[0]:
            at_violated = torch.where(violated > 0.5, grad @ (weight / rest).mT, grad @ weight.mT)
        if ctx.needs_input_grad[1]:
            at_weight = violated.mT @ grad / rest
        return at_violated, at_weight


def soft_conjunction(violated, weight, activation, *, binary):
    """squash(S) of violations u in the dtype given; binary: whether u is 0 or 1, so that all sums are products."""
    if activation.kind == "nlaf":
        total = activation.stretch(violated) @ activation.stretch(weight)
    elif binary:
        total = LogSum.apply(violated, weight)
    else:
        total = -(1 - violated[..., None] * weight).clamp(min=FLOOR).log().sum(-2)
    return activation.squash(total)


class StraightAnd(torch.autograd.Function):
    """AND at cut weights with the product's gradient there: zero for a row that violates two literals or more.

    ∂y/∂W_i = -u_i [k = 0] for a weight below a half, -u_i [k = 1] above; k: violated literals (eq. discrete-straight).
    """

    @staticmethod
    def forward(ctx, violated, weight):
        cut = (weight > 0.5).to(violated.dtype)
        count = violated @ cut
        ctx.save_for_backward(violated, cut, count)
        return (count < 0.5).to(violated.dtype)

    @staticmethod
    def backward(ctx, grad):
        violated, cut, count = ctx.saved_tensors
        none, one = grad * (count < 0.5), grad * ((count > 0.5) & (count < 1.5))
        at_violated = at_weight = None
        if ctx.needs_input_grad[0]:
            at_violated = -torch.where(violated > 0.5, one @ cut.mT, none @ cut.mT)
        if ctx.needs_input_grad[1]:
            at_weight = -torch.where(cut > 0.5, violated.mT @ one, violated.mT @ none)
        return at_violated, at_weight


def binarised_at_random(weight, mask):
    """The weight where `mask` is 0, its cut, without gradient, where it is 1     (eq. discrete-random)."""
    return torch.where(mask.bool(), (weight > 0.5).to(weight.dtype), weight)


def estimated(violated, weight, activation, estimator, *, binary=True, mask=None):
    """One layer of conjunctions over violations u = 1 - x, by one of ESTIMATORS. Raises ValueError for another.

    mask: of "random": [n, nodes], 1 where the weight is cut. A layer of disjunctions is 1 - estimated(x, …).
    """
    require(violated, weight)
    if estimator not in ESTIMATORS:
        raise ValueError(f"an estimator is one of {', '.join(ESTIMATORS)}; got {estimator!r}.")
    if estimator == "straight":
        return StraightAnd.apply(violated, weight)
    if estimator == "random":
        if mask is None:
            raise ValueError("estimator 'random' needs a mask of which weights are cut; got None.")
        weight = binarised_at_random(weight, mask)
    soft = soft_conjunction(violated, weight, activation, binary=binary)
    return graft(hard_conjunction(1 - violated, weight), soft) if estimator == "grafted" else soft


class Literals(nn.Module):
    """A layer of a rule net: `nodes` conjunctions beside `nodes` disjunctions over n literals. Its weight is cut."""

    def __init__(self, n, nodes, *, start=0.5):
        super().__init__()
        self.nodes, self.weight = nodes, nn.Parameter(torch.empty(n, 2 * nodes).uniform_(0, start))

    def halves(self, weight=None):
        """(weight of the conjunctions, weight of the disjunctions), each [n, nodes]."""
        return (self.weight if weight is None else weight).split(self.nodes, dim=1)

    def hard(self, inputs):
        """Truth 0 or 1 of each node, [rows, 2 nodes]."""
        conj, disj = self.halves()
        return torch.cat([hard_conjunction(inputs, conj), 1 - hard_conjunction(1 - inputs, disj)], 1)

    def forward(self, inputs, activation, estimator, *, binary=True):
        conj, disj = self.halves()
        settings = dict(activation=activation, estimator=estimator, binary=binary)
        return torch.cat([estimated(1 - inputs, conj, **settings), 1 - estimated(inputs, disj, **settings)], 1)
