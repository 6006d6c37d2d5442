"""Clusters of short texts by attention, with an adversary that moves the clusters. A RECONSTRUCTION.

After the abstract of ARL (arXiv 1912.03720), the only text that we had: attention between texts and clusters, and
perturbations of the clusters' representations. The formulas here are ours. A cluster is a query, a text's words are
keys and values, their rarity is a bias, padding is the mask.
"""

import torch
from torch.nn import functional

SHARP, RARE, SURE = 5.0, 0.3, 10.0  # scales of the attention, of the bias, of the memberships


def attend(words, mask, rarity, clusters):
    """One row of attention per cluster over a text's words (eq. signals-attend).

    words: keys and values [texts, length, dim], unit; mask: bool [texts, length], True for a word; rarity: the bias
    [texts, length]; clusters: queries [clusters, dim]. Returns (weights [texts, clusters, length], 0 at padding; what
    each cluster reads, unit [texts, clusters, dim]). Raises ValueError for a text without words.
    """
    if not mask.any(1).all():
        raise ValueError(f"text {int((~mask.any(1)).nonzero()[0])} has no word; attention needs one.")
    scores = SHARP * torch.einsum("kd,nld->nkl", clusters, words) + RARE * rarity[:, None]
    weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
    return weights, functional.normalize(weights @ words, dim=-1)


def memberships(words, mask, rarity, clusters):
    """(p [texts, clusters], the text's vector z, its reconstruction r from the clusters), both unit [texts, dim]."""
    _, read = attend(words, mask, rarity, clusters)
    share = (SURE * (read * clusters).sum(-1)).softmax(-1)
    text = functional.normalize((share[..., None] * read).sum(1), dim=-1)
    return share, text, functional.normalize(share @ clusters, dim=-1)


def loss_of(words, mask, rarity, clusters, others):
    """Margin of a text's reconstruction to itself against other texts, and clusters kept apart (eq. signals-margin).

    others: numbers of texts that stand against each, [texts, negatives].
    """
    _, text, rebuilt = memberships(words, mask, rarity, clusters)
    near = (rebuilt * text).sum(-1, keepdim=True)
    far = torch.einsum("nd,nmd->nm", rebuilt, text[others])
    overlap = clusters @ clusters.T - torch.eye(len(clusters), dtype=clusters.dtype)
    return (1 - near + far).clamp(min=0).mean() + 0.1 * len(clusters) * overlap.square().mean()


def perturbation(loss, clusters, size):
    """The adversary's move (eq. signals-adversary): `size` along each cluster's own gradient, which raises the loss.

    loss: from clusters to a number. A cluster without a gradient stays. Returns [clusters, dim], without a graph.
    """
    start = clusters.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(start), start)
    return size * functional.normalize(gradient, dim=-1)


def against_adversary(loss, clusters, size, share=1.0):
    """loss(C) + share · loss(C + δ), δ of `perturbation`. At size 0 that is (1 + share) times the loss."""
    return loss(clusters) + share * loss(clusters + perturbation(loss, clusters, size))


def random_move(clusters, size, generator):
    """What an adversary that cannot see would do: a move of the same length per cluster, anywhere."""
    return size * functional.normalize(torch.randn(clusters.shape, generator=generator, dtype=clusters.dtype), dim=-1)


def trained(
    words, mask, rarity, clusters, *, size=0.0, share=1.0, blind=False, steps=150, batch=256, rate=0.02, seed=0
):
    """Clusters after `steps` of Adam. size: of the adversary's move; blind: a random move in its place."""
    generator = torch.Generator().manual_seed(seed)
    clusters = functional.normalize(clusters, dim=-1).clone().requires_grad_()
    optimizer = torch.optim.Adam([clusters], lr=rate)
    for _ in range(steps):
        rows = torch.randint(len(words), (batch,), generator=generator)
        others = torch.randint(batch, (batch, 20), generator=generator)

        def loss(given, rows=rows, others=others):
            return loss_of(words[rows], mask[rows], rarity[rows], given, others)

        if blind:
            total = loss(clusters) + share * loss(clusters + random_move(clusters, size, generator))
        else:
            total = against_adversary(loss, clusters, size, share) if size else loss(clusters)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return clusters.detach()
