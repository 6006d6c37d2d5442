"""How much of the class a straight line reads in a latent: a softmax on frozen latents, fitted to the end."""

import torch
from torch.nn import functional

RIDGE = 1e-3


def pooled(latents):
    """[images, tokens, latent] to their mean over tokens, [images, latent]."""
    return latents.mean(1)


def probe(latents, labels, held, held_labels, *, classes=10, ridge=RIDGE, iterations=100):
    """The share of held-out rows that a linear softmax fitted on the others names rightly.

    latents, held: [rows, ...], flattened and brought to the deviation of the training rows; labels: int64 [rows].
    ridge: the weight of the squared weights. The loss is convex, and L-BFGS starts at zero: nothing is drawn.
    Raises ValueError for labels that are not one per row.
    """
    for rows, named in ((latents, labels), (held, held_labels)):
        if len(rows) != len(named):
            raise ValueError(f"each row needs a label; there are {len(rows)} rows and {len(named)} labels.")
    flat, other = latents.flatten(1).double(), held.flatten(1).double()
    mean, deviation = flat.mean(0), flat.std(0).clamp(min=1e-9)
    flat, other = (flat - mean) / deviation, (other - mean) / deviation
    weight = torch.zeros(flat.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(flat @ weight + bias, labels) + ridge * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return ((other @ weight + bias).argmax(1) == held_labels).double().mean().item()
