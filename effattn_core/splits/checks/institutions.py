"""The hidden cases of the exercises on split data and on knowledge that moves without its data."""

import torch

from effattn_core.exercises import compare_number, exercise, known_mistake
from effattn_core.splits.federated import CONTROLLED, bytes_per_round
from effattn_core.splits.transfer import batchnorm_loss, information

CLIENTS, PARAMETERS = 4, 1_000_000  # of the exercise on bytes


@exercise("splits.bytes", level="pencil")
def bytes_sent(answer):
    """Megabytes per round of Scaffold: four clients, a million float32 parameters."""
    right = bytes_per_round(CONTROLLED, CLIENTS, PARAMETERS) / 1e6
    return compare_number(
        answer,
        right,
        [
            (right / 2, "That is FedAvg: Scaffold sends a control variate beside the model, each way."),
            (right / 4, "Both ways, and a control variate beside the model: four vectors per client."),
            (right / CLIENTS, "That is one client."),
            (right / 4 * 3, "Both ways have two vectors: down w and c, up their changes."),
            (right * 1e6, "Bytes are right; megabytes are asked."),
            (right / 4e0 / 4, "A float32 has four bytes."),
        ],
    )


@exercise("splits.uncertain", level="pencil")
def uncertain(answer):
    """The information loss of four sure predictions, half of one class and half of another."""
    right = information(torch.eye(2, dtype=torch.float64)[[0, 0, 1, 1]]).item()
    return compare_number(
        answer,
        right,
        [
            (-right, "The sign: the diversity, an entropy, is subtracted."),
            (0, "Each row is sure, so the first term is 0; the mean row (½, ½) has an entropy."),
            (-1, "That is in bits; natural logarithms are asked."),
        ],
    )


def _case(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, dtype=torch.float64, generator=generator) for _ in range(4)]


@exercise("splits.scaffold", level="code")
def scaffold(function):
    """`function(model, server, own, gradient, steps, rate)`: a client's model and its new c_i after a round."""
    for seed, (steps, rate) in enumerate(((1, 0.1), (7, 0.1), (20, 0.05))):
        start, server, own, optimum = _case(seed)

        def gradient(given, optimum=optimum):
            return 2 * (given - optimum)

        def walk(correction, start=start, gradient=gradient, steps=steps, rate=rate):
            found = start
            for _ in range(steps):
                found = found - rate * (gradient(found) + correction)
            return found

        given = [each.clone() for each in (start, server, own)]
        found = function(*given, gradient, steps, rate)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            return "Return two tensors: the client's model and its new control variate."
        model, variate = found
        right = walk(server - own)
        if not torch.allclose(model, right):
            if torch.allclose(model, walk(own - server)):
                return "The sign of the correction is turned: c − c_i is added to the gradient."
            if torch.allclose(model, walk(0)):
                return "The steps are plain: the correction never reaches them. That is FedAvg, as FedCVD's code runs."
            return f"The model differs by {(model - right).abs().max():.2g} after {steps} steps."
        wanted = own - server + (start - right) / (steps * rate)
        if torch.allclose(variate, wanted):
            continue
        mistakes = (
            (own - server, "c_i is updated with the new w: (w − w_i) needs the model that the round began with."),
            (own - server + (start - right) / rate, "Divide by the number of steps too: c_i is a mean gradient."),
            (own - server + (right - start) / (steps * rate), "The sign: w − w_i, against the way it went."),
            (own + (start - right) / (steps * rate), "c is missing: c_i − c + … takes the correction out again."),
            (gradient(right), "That is the gradient at the end; the mean over the steps is asked."),
        )
        return (
            known_mistake(variate, mistakes)
            or f"c_i differs by {(variate - wanted).abs().max():.2g}: divide by steps taken, not by epochs."
        )
    return None


@exercise("splits.statistics", level="code")
def statistics(function):
    """`function(inputs, mean, variance)`: the BatchNorm loss of one layer."""
    for seed, (batch, size) in enumerate(((6, 3), (2, 5), (40, 1)), start=1):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(batch, size, dtype=torch.float64, generator=generator)
        mean, variance = inputs.mean(0) + seed, inputs.var(0, correction=0) + 0.5 * seed
        wanted = batchnorm_loss([inputs], [mean], [variance])
        found = function(inputs.clone(), mean.clone(), variance.clone())
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            return "Return one number, as a tensor."
        if torch.allclose(found, wanted):
            continue
        means = (inputs.mean(0) - mean).square()
        unbiased, biased = ((inputs.var(0, correction=each) - variance) for each in (1, 0))
        mistakes = (
            (
                means.sum() + unbiased.square().sum(),
                "The variance is the unbiased one; the biased one is asked, divided by the batch.",
            ),
            (means.sum(), "The variances are missing."),
            (biased.square().sum(), "The means are missing."),
            (means.mean() + biased.square().mean(), "Squared norms are sums over the features, not means."),
            (means.sum().sqrt() + biased.square().sum().sqrt(), "The norms are squared: no root."),
        )
        return known_mistake(found, mistakes) or f"It gives {found.item():.4g}; {wanted.item():.4g} is wanted."
    return None


@exercise("splits.drift", level="open")
def drift(answer):
    """Your experiment: distances from the optimum for at least three numbers of local steps, without variates."""
    if not isinstance(answer, (tuple, list)) or len(answer) < 3:
        return "Give the distances for at least three numbers of local steps, as a tuple."
    if list(answer) != sorted(answer):
        return "With more local steps the resting place moves away from the optimum; yours comes nearer somewhere."
    if answer[0] > 1e-6:
        return "Begin with one step: its resting place is the optimum, so run more rounds."
    return None
