"""Weights of training examples that a few trusted labels choose: learning to reweight, as MetaBLINK uses it.

Li et al. 2022 (MetaBLINK, arXiv 2207.05280), after Ren et al. 2018. An example's weight is how far a small step on it
would lower the loss of the trusted examples, and 0 where that step would raise it. It is one row of attention: the
trusted examples' gradient is the query, each example's gradient its key, a rectifier stands where softmax would.
"""

import torch
from torch.nn import functional


def oracle(losses, meta_loss, parameter, rate):
    """Weights by the unrolled step (eq. signals-unrolled): differentiate the meta loss through one step of SGD.

    losses: from a parameter to the loss of each example, [batch]; meta_loss: to one number. rate: of the step, > 0.
    Returns (weights [batch], derivative [batch] of the meta loss by each example's weight, at weights of 0).
    """
    share = torch.zeros_like(losses(parameter), requires_grad=True)
    start = parameter.detach().requires_grad_()
    (step,) = torch.autograd.grad((share * losses(start)).sum(), start, create_graph=True)
    (derivative,) = torch.autograd.grad(meta_loss(start - rate * step), share)
    return normalised(-derivative), derivative


def normalised(usefulness):
    """Clip at 0, then divide by the sum; all zeros if no example is useful (eq. signals-weights)."""
    kept = usefulness.clamp(min=0)
    total = kept.sum()
    return kept / total if total > 0 else kept


def weights(gradients, meta_gradient):
    """The same weights from first-order gradients alone, without an unrolled graph (eq. signals-alignment).

    gradients: [batch, parameters], one row per example, of its own loss; meta_gradient: [parameters].
    Returns [batch], at least 0, with sum 1, or all 0. The step's rate falls out. Raises ValueError for other shapes.
    """
    if gradients.ndim != 2 or meta_gradient.shape != gradients.shape[1:]:
        raise ValueError(
            f"gradients are [batch, parameters] and the meta gradient [parameters]; got {tuple(gradients.shape)} and "
            f"{tuple(meta_gradient.shape)}."
        )
    return normalised(gradients @ meta_gradient)


def gradients_of(features, targets, parameter):
    """Each example's gradient of cross-entropy, [batch, parameters], and its loss, [batch].

    features [batch, width] with parameter [width, classes]: softmax regression. features [batch, candidates, width]
    with parameter [width]: one score per candidate; one whose features are not finite is none, its score -inf.
    """
    if features.ndim == 2:
        logits = features @ parameter
        error = logits.softmax(1) - functional.one_hot(targets, logits.shape[1])
        found = (features[:, :, None] * error[:, None]).flatten(1)
    else:
        there = features.isfinite().all(-1)
        features = features.masked_fill(~there[..., None], 0)
        logits = (features @ parameter).masked_fill(~there, -torch.inf)
        error = logits.softmax(1) - functional.one_hot(targets, logits.shape[1])
        found = (error[..., None] * features).sum(1)
    return found, functional.cross_entropy(logits, targets, reduction="none")


def predicted(features, parameter):
    """The class, or candidate, of the largest score, [batch]."""
    if features.ndim == 2:
        return (features @ parameter).argmax(1)
    there = features.isfinite().all(-1)
    scores = features.masked_fill(~there[..., None], 0) @ parameter
    return scores.masked_fill(~there, -torch.inf).argmax(1)


def accepted(gradients, losses_after, loss_before, rate, parameter):
    """Weights 0 or 1, the low-memory variant of the released code: is the meta loss lower after a step on it alone?

    gradients: [batch, parameters]; losses_after: from parameters [batch, …] to the meta loss of each, [batch].
    """
    trial = parameter - rate * gradients.view(-1, *parameter.shape)
    return (losses_after(trial) < loss_before).to(gradients)


def trained(noisy, gold, rule, *, width, steps=300, batch=100, rate=0.5, trial=0.02, seed=0):
    """A linear model after `steps` of SGD. noisy, gold: (features, targets); width: the parameter's shape.

    rule: "noisy" or "gold" (those alone, all alike), "both" (as many of each in a batch), "weighted", "accepted", or
    "own" (weighted, but the meta batch is the noisy batch itself). trial: the rate of the step of "accepted".
    Returns (parameter, weight of each noisy example: its mean over the batches that it was in).
    """
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.zeros(width)
    total, times = torch.zeros(len(noisy[1])), torch.zeros(len(noisy[1]))
    for _ in range(steps):
        chosen = torch.randint(len(noisy[1]), (batch,), generator=generator)
        gradients, _ = gradients_of(noisy[0][chosen], noisy[1][chosen], parameter)
        trusted, losses = gradients_of(*gold, parameter)
        uniform = torch.full((batch,), 1 / batch)
        if rule in ("weighted", "own"):
            weight = weights(gradients, (gradients if rule == "own" else trusted).mean(0))
        elif rule == "accepted":
            weight = normalised(accepted(gradients, lambda each: _meta(gold, each), losses.mean(), trial, parameter))
        else:
            weight = uniform * {"noisy": 1, "gold": 0, "both": 0.5}[rule]
        step = weight @ gradients + trusted.mean(0) * {"gold": 1, "both": 0.5}.get(rule, 0)
        parameter = parameter - rate * step.view(parameter.shape)
        total[chosen] += weight * batch
        times[chosen] += 1
    return parameter, total / times.clamp(min=1)


def _meta(gold, parameters):
    """The mean loss of the trusted examples under each parameter, [trials]; all at once."""
    features, targets = gold
    if features.ndim == 2:
        logits = torch.einsum("nw,twc->tnc", features, parameters)
    else:
        there = features.isfinite().all(-1)
        logits = torch.einsum("ncw,tw->tnc", features.masked_fill(~there[..., None], 0), parameters)
        logits = logits.masked_fill(~there, -torch.inf)
    own = logits.gather(2, targets.expand(len(parameters), -1)[..., None])[..., 0]
    return (logits.logsumexp(2) - own).mean(1)


def ranks(weight, right):
    """The share of pairs (rightly labelled, wrongly labelled) in which the first has the larger weight; ties half."""
    good, bad = weight[right], weight[~right]
    apart = good[:, None] - bad
    return ((apart > 0).double() + 0.5 * (apart == 0)).mean().item()
