"""Pairs of digits that hold relations, some labels missing: what a loss with a threshold makes of them.

A pair of images (scikit-learn's digits, BSD) holds some of RELATIONS or none. Its features are the outer product of two
posteriors of a logistic regression, so that a linear model can say all of it and only the loss matters. Labels of true
relations are dropped at random in training; test labels are whole.
"""

import functools

import torch

from effattn_core.discrete.margins import LOSSES, sat

RELATIONS = {
    "b = a + 1": lambda a, b: b == a + 1, "b = 2 a": lambda a, b: b == 2 * a, "a + b = 10": lambda a, b: a + b == 10,
    "a + b = 9": lambda a, b: a + b == 9, "a = b": lambda a, b: a == b, "b = a a": lambda a, b: b == a * a,
    "b = 3 a": lambda a, b: b == 3 * a, "a = b + 5": lambda a, b: a == b + 5,
}  # fmt: skip
ARMS = ("BCE", *LOSSES)
TRAIN, TEST, STEPS = 3000, 2000, 300


@functools.cache
def _posteriors():
    """(posteriors float32 [images, 10] of images left out of the classifier's training, their digits)."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    found = load_digits()
    half = len(found.target) // 2
    model = LogisticRegression(max_iter=2000).fit(found.data[:half] / 16, found.target[:half])
    return torch.tensor(model.predict_proba(found.data[half:] / 16)).float(), torch.tensor(found.target[half:]).long()


def drawn(seed):
    """(features [rows, 100], labels bool [rows, relations]) to train on and the same to test on, of other images."""
    generator, (posterior, digit) = torch.Generator().manual_seed(seed), _posteriors()
    order, parts = torch.randperm(len(digit), generator=generator), []
    for own, rows in zip(order.chunk(2), (TRAIN, TEST), strict=True):
        one, other = own[torch.randint(len(own), (2, rows), generator=generator)]
        labels = torch.stack([holds(digit[one], digit[other]) for holds in RELATIONS.values()], 1)
        parts.append(((posterior[one, :, None] * posterior[other, None]).flatten(1), labels))
    return parts


def f1(said, labels):
    """Micro-F1 of bool predictions."""
    return 2 * (said & labels).sum().item() / max((said.sum() + labels.sum()).item(), 1)


def best_f1(margin, labels):
    """F1 at the one threshold, the same for all relations, that is best on these very rows: an oracle's."""
    order = margin.flatten().argsort(descending=True)
    hits = labels.flatten()[order].double().cumsum(0)
    made = torch.arange(1, len(order) + 1)
    return (2 * hits / (made + labels.sum())).max().item()


def trained(name, features, kept, *, steps=STEPS, rate=0.3):
    """margin: a function from features [rows, 100] to margins [rows, relations] of a linear model, trained by Adam.

    The model has a score for each relation and one for the threshold class; a margin is the difference. name: one of
    ARMS; BCE has no threshold class, and 0 in its place. kept: the labels that are left, bool [rows, relations].
    """
    if name not in ARMS:
        raise ValueError(f"name must be one of {', '.join(ARMS)}; it is {name!r}.")
    weight = torch.zeros(features.shape[1], len(RELATIONS) + 1, requires_grad=True)
    bias = torch.zeros(len(RELATIONS) + 1, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=rate)

    def margin(features):
        score = features @ weight + bias
        return score[:, 1:] - (0 if name == "BCE" else score[:, :1])

    loss = sat if name == "BCE" else LOSSES[name]
    settings = {"rarity": rarity(kept)} if name == "CMM (ours)" else {}
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        loss(margin(features), kept, **settings).mean().backward()
        optimizer.step()
    return lambda features: margin(features).detach()


def dropped(labels, missing, seed):
    """The labels without those that a draw removes: each true one with chance `missing`."""
    generator = torch.Generator().manual_seed(100 + seed)
    return labels & (torch.rand(labels.shape, generator=generator) >= missing)


def rarity(labels):
    """ln of each relation's share of rows over the mean of these logarithms: about 1, more for rare ones."""
    share = (labels.float().sum(0).clamp(min=1) / len(labels)).log()
    return share / share.mean()


def judged(name, seed, missing, *, steps=STEPS):
    """{f1, precision, recall, best}: micro figures at the model's own threshold, and the best F1 at any."""
    (features, labels), (others, wanted) = drawn(seed)
    margin = trained(name, features, dropped(labels, missing, seed), steps=steps)(others)
    said = margin > 0
    hits = (said & wanted).sum().item()
    return {
        "f1": f1(said, wanted), "precision": hits / max(said.sum().item(), 1), "recall": hits / wanted.sum().item(),
        "best": best_f1(margin, wanted),
    }  # fmt: skip
