"""Self-training for an entity that is new: features that drift, held together by slots. A RECONSTRUCTION.

After the abstract of STAMO (arXiv 2208.03877), the only text that we had: it speaks of intra-slot and inter-slot
optimisation of a new entity's features. The formulas here are ours. A mention is a query, the bearers of its name are
keys, the log of the prior is a bias, and the attention weights are the soft labels.
"""

import torch
from torch.nn import functional


def posterior(vectors, candidates, features, prior, scale, *, hard=False):
    """Soft labels (eq. signals-posterior): softmax over candidates of scale · vector·feature + log prior.

    vectors: queries [count, dim]; candidates: entity numbers [count, most], -1 for none (the mask); features: keys
    [entities, dim], unit rows; prior: [entities], > 0. hard: 1 for the likeliest, 0 elsewhere. Returns [count, most].
    """
    scores = _scores(vectors, candidates, features, prior, scale)
    if hard:
        return functional.one_hot(scores.argmax(1), scores.shape[1]).to(scores)
    return scores.softmax(1)


def _scores(vectors, candidates, features, prior, scale):
    if not (candidates >= 0).any(1).all():
        empty = int((~(candidates >= 0).any(1)).nonzero()[0])
        raise ValueError(f"each mention needs a candidate; mention {empty} has none.")
    scores = scale * torch.einsum("nd,nkd->nk", vectors, features[candidates]) + prior[candidates].log()
    return scores.masked_fill(candidates < 0, -torch.inf)


def log_likelihood(unlabelled, labelled, features, prior, scale):
    """What soft EM never lowers (eq. signals-likelihood), in nats; the constant of the vectors' density left out.

    unlabelled: (vectors, candidates); labelled: (vectors, candidates, place of the right one). The prior is shared out
    among the candidates of a name.
    """
    total = 0.0
    for vectors, candidates, *targets in (unlabelled, labelled):
        if len(vectors) == 0:
            continue
        scores = _scores(vectors, candidates, features, prior, scale)
        among = prior[candidates].masked_fill(candidates < 0, 0).sum(1).log()
        own = scores[torch.arange(len(scores)), targets[0]] if targets else scores.logsumexp(1)
        total += (own - among).sum().item()
    return total


def refit(unlabelled, labelled, features, prior, new, scale, *, hard=False, least=0.0, learn_prior=False):
    """One step of EM: soft labels, then new features and prior from them (eq. signals-refit).

    new: entities whose features are learned, bool [entities]; the others' stay. least: soft labels below it count as
    0 (dropping the uncertain). Returns (features, prior). An entity with nothing to learn from keeps its features.
    """
    share = posterior(*unlabelled, features, prior, scale, hard=hard)
    share = share * (share >= least)
    total, count = torch.zeros_like(features), torch.zeros_like(prior)
    vectors, candidates, targets = labelled
    known = candidates[torch.arange(len(candidates)), targets]
    total.index_add_(0, known, vectors)
    count.index_add_(0, known, torch.ones_like(vectors[:, 0]))
    vectors, candidates = unlabelled
    there = candidates >= 0
    moved = share[..., None] * vectors[:, None]
    total.index_add_(0, candidates[there], moved[there])
    count.index_add_(0, candidates[there], share[there])
    learned = new & (total.norm(dim=1) > 0)
    features = torch.where(learned[:, None], functional.normalize(total, dim=1), features)
    return features, count.clamp(min=1e-9) if learn_prior else prior


def self_trained(slots, labelled, features, prior, new, scale, *, rounds=3, steps=6, anchored=None, **how):
    """Features after `rounds`: per round each slot runs EM from the same start, then the slots' optima are averaged.

    slots: a list of (vectors, candidates), the unlabelled mentions as they arrive; steps: of EM within a slot;
    anchored: whether the labelled mentions' own features enter the mean as one more optimum, by default where there
    are two slots or more; how: as of `refit`. Returns the features at the start and after each round.
    """
    if not slots:
        raise ValueError("at least one slot of unlabelled mentions is wanted; there is none.")
    anchored = len(slots) > 1 if anchored is None else anchored
    nothing = (labelled[0][:0], labelled[1][:0])
    anchor, _ = refit(nothing, labelled, features, prior, new, scale)
    path = [anchor]
    for _ in range(rounds):
        optima = [anchor] if anchored else []
        for slot in slots:
            found, share = path[-1], prior
            for _ in range(steps):
                found, share = refit(slot, labelled, found, share, new, scale, **how)
            optima.append(found)
        mean = functional.normalize(torch.stack(optima).mean(0), dim=1)  # inter-slot: nobody carries it away alone
        path.append(torch.where(new[:, None], mean, features))
    return path


def naive(unlabelled, labelled, features, prior, new, scale, steps):
    """Plain self-training: label by the likeliest candidate, take the mean of all that carry the label, repeat."""
    vectors, candidates, targets = labelled
    known = [(int(row[place]), vector) for row, place, vector in zip(candidates, targets, vectors, strict=True)]

    def means(pairs, before):
        after = before.clone()
        for entity in new.nonzero()[:, 0].tolist():
            mine = [vector for number, vector in pairs if number == entity]
            if mine:
                after[entity] = functional.normalize(torch.stack(mine).sum(0), dim=0)
        return after

    features = means(known, features)
    for _ in range(steps):
        scores = _scores(*unlabelled, features, prior, scale)
        best = unlabelled[1].gather(1, scores.argmax(1, keepdim=True))[:, 0].tolist()
        features = means([*known, *zip(best, unlabelled[0], strict=True)], features)
    return features
