"""A rule net, trained: literals, layers of conjunctions and disjunctions, one linear layer of votes (RRL)."""

import torch
from torch import nn
from torch.nn import functional

from effattn_core.discrete.activations import MILD
from effattn_core.discrete.estimators import ESTIMATORS, Literals, graft


class RuleNet(nn.Module):
    """[rows, n] literals of 0 or 1 -> logits [rows, classes].

    nodes: of each kind per layer; layers: later ones see the truth of the earlier and its opposite (the paper's skip
    connections are left out). temperature: the start of exp(t), by which logits are divided.
    """

    def __init__(self, n, nodes, classes, *, layers=1, activation=MILD, estimator="grafted", temperature=0.1):
        super().__init__()
        if estimator not in ESTIMATORS:
            raise ValueError(f"an estimator is one of {', '.join(ESTIMATORS)}; got {estimator!r}.")
        self.activation, self.estimator = activation, estimator
        widths = [n] + [4 * nodes] * (layers - 1)
        self.levels = nn.ModuleList(Literals(width, nodes) for width in widths)
        self.votes = nn.Linear(2 * nodes, classes)
        self.log_temperature = nn.Parameter(torch.tensor(float(temperature)).log())

    def truths(self, inputs, *, hard=True):
        """Truth of the last layer's nodes, 0 or 1; hard=False: the soft net's, with gradient."""
        for number, level in enumerate(self.levels):
            if number:
                inputs = torch.cat([inputs, 1 - inputs], 1)
            inputs = level.hard(inputs) if hard else level(inputs, self.activation, "soft", binary=number == 0)
        return inputs

    def vote(self, truths):
        """Logits of the truths of the last layer."""
        return self.votes(truths) / self.log_temperature.exp()

    def forward(self, inputs):
        """Logits as training sees them, by the net's estimator."""
        if self.estimator in ("soft", "single"):
            soft = self.vote(self.truths(inputs, hard=False))
            return soft if self.estimator == "soft" else graft(self.vote(self.truths(inputs)), soft)
        for number, level in enumerate(self.levels):
            if number:
                inputs = torch.cat([inputs, 1 - inputs], 1)
            inputs = level(inputs, self.activation, self.estimator)
        return self.vote(inputs)

    @torch.no_grad()
    def accuracy(self, inputs, labels, *, hard=True):
        """The share of rows whose largest logit is their label's, of the cut net or of the soft one."""
        return (self.vote(self.truths(inputs, hard=hard)).argmax(1) == labels).double().mean().item()

    def penalty(self):
        """ΣW² + ΣV²."""
        return sum(level.weight.square().sum() for level in self.levels) + self.votes.weight.square().sum()


def fit(net, inputs, labels, *, steps, rate=0.01, penalty=1e-4, batch=64, seed=0, drop=None):
    """Train in place by Adam; weights are clipped to [0, 1] after each step. Returns the net.

    penalty: λ, inside the loss. drop: at how many steps the rate falls to three quarters; None: never.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer, order = torch.optim.Adam(net.parameters(), lr=rate), torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(labels), generator=generator)])
        rows, order = order[:batch], order[batch:]
        loss = functional.cross_entropy(net(inputs[rows]), labels[rows]) + penalty * net.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for level in net.levels:
                level.weight.clamp_(0, 1)
        if drop and (step + 1) % drop == 0:
            optimizer.param_groups[0]["lr"] *= 0.75
    return net
