"""MLLP and its rule sets (AAAI 2020, arXiv 1912.04695): soft ANDs and ORs in turn, cut after training, several at once.

A concept rule set (CRS) is the same net with weights cut at a half. Random Binarisation cuts a random share of the
weights already in training. Nets of several shares and seeds are trained side by side, [nets, n, nodes].
"""

import torch

from effattn_core.discrete.estimators import binarised_at_random


def rule_set(inputs, weights, *, hard=False):
    """Truth of the last level's nodes, [nets, rows, nodes]: levels are AND, OR, AND, OR … of the product.

    inputs: [rows, n] in [0, 1]; weights: a list of [nets, n, nodes], as many as levels, an even number.
    Raises ValueError for an odd number of levels.
    """
    if len(weights) % 2:
        raise ValueError(f"levels come in pairs, AND then OR; got {len(weights)} weights.")
    truth = inputs.expand(weights[0].shape[0], *inputs.shape)
    for number, weight in enumerate(weights):
        weight = (weight > 0.5).to(truth.dtype) if hard else weight
        violated = truth if number % 2 else 1 - truth
        kept = _kept(violated, weight)
        truth = 1 - kept if number % 2 else kept
    return truth


def _kept(violated, weight):
    """Π (1 - u W), [nets, rows, nodes]: a node at a time would be slow, all at once large."""
    return (1 - violated[..., None] * weight[:, None]).prod(-2)


def train_rule_sets(inputs, labels, classes, shares, seeds, *, widths=(32, 16, 32), epochs=100, rate=0.01, batch=64):
    """Weights of len(shares) * len(seeds) nets, share by share, trained side by side by squared error.

    shares: of the weights that are cut in an epoch, drawn anew for each. Weights start in [0, 0.1]: products near 1.
    """
    shares = torch.tensor([share for share in shares for _ in seeds])[:, None, None]
    sizes, weights = [inputs.shape[1], *widths, classes], []
    for number, (n, nodes) in enumerate(zip(sizes, sizes[1:], strict=False)):
        drawn = [0.1 * torch.rand(n, nodes, generator=torch.Generator().manual_seed(100 * seed + number))
                 for seed in seeds]  # fmt: skip
        weights.append(torch.nn.Parameter(torch.stack(drawn).repeat(len(shares) // len(seeds), 1, 1)))
    generator, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(weights, lr=rate)
    target = torch.nn.functional.one_hot(labels, classes).to(inputs.dtype)
    for epoch in range(epochs):
        masks = [torch.rand(weight.shape, generator=generator) < shares for weight in weights]
        for rows in torch.randperm(len(labels), generator=generator).split(batch):
            mixed = [binarised_at_random(weight, mask) for weight, mask in zip(weights, masks, strict=True)]
            loss = (rule_set(inputs[rows], mixed) - target[rows]).square().mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for weight in weights:
                    weight.clamp_(0, 1)
        if (epoch + 1) % 100 == 0:
            optimizer.param_groups[0]["lr"] *= 0.75
    return [weight.detach() for weight in weights]


def judged(inputs, labels, weights, *, hard):
    """(accuracy, share of rows on which several classes tie for the first place) of each net, [nets] each.

    Ties go to class 0, as argmax gives them: where no rule of any class fires, that is a constant answer.
    """
    truth = rule_set(inputs, weights, hard=hard)
    right = truth.argmax(2) == labels
    tied = (truth == truth.amax(2, keepdim=True)).sum(2) > 1
    return right.double().mean(1), tied.double().mean(1)
