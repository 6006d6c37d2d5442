"""A user's attention over the aspects of an item, and a graph that fills in what no review says (KCF-PLM).

RECONSTRUCTION from the paper's abstract: aspects, a knowledge graph and attention guided by the user are its; the rest
is the simplest choice. Items are the 178 real wines of scikit-learn, 13 measurements each; users are synthetic.
"""

import functools
from dataclasses import dataclass

import torch
from torch import nn

from effattn_core.coattention.attend import attend

USERS, ASPECTS, TRAIN, TEST = 120, 13, 21, 9
ARMS = ("mean of aspects", "guided", "mean + graph", "guided + graph")


def guided(query, key, value, shown):
    """(output, weights): which aspects of an item matter to who asks     (eq. coattention-guided)

    query: [..., dim] of users; key: [..., aspects, dim]; value: [..., aspects, value_dim]; shown: bool [..., aspects],
    whether a review mentions an aspect. An item of which nothing is shown gives 0, not nan.
    """
    output, weight, _ = attend(query[..., None, :], key, value, mask=shown[..., None, :], scale=1.0)
    return output[..., 0, :], weight[..., 0, :]


def filled(state, shown, neighbour, weight=None):
    """(states, shown) after one hop of the knowledge graph: a hidden aspect gets the mean of neighbours that show it.

    state: [items, aspects]; shown: bool [items, aspects]; neighbour: bool [items, items]; weight: ln of each edge's
    weight for this user, or None. As attention per aspect: query and key 0, bias the weight, mask edge ∧ shown.
    An aspect that nobody near shows stays hidden, at 0.
    """
    zero = torch.zeros(state.shape[1], len(state), 1, dtype=state.dtype)
    mask = neighbour & shown.T[:, None]  # [aspects, asking item, answering item]
    found, _, log_sum_exp = attend(zero, zero, state.T[..., None], bias=weight, mask=mask)
    known = shown | (log_sum_exp.T > -torch.inf)
    return torch.where(shown, state, found[..., 0].T), known


@dataclass(frozen=True)
class Tasting:
    """Who drank what: wines [178, 13] standardised, cultivar [178], shown bool [178, 13], preference [users, 13] of sum
    1, training and test as (user, wine, rating)."""

    wines: torch.Tensor
    cultivar: torch.Tensor
    shown: torch.Tensor
    preference: torch.Tensor
    training: tuple
    test: tuple


@functools.cache
def tasting(shown=4, seed=0):
    """A Tasting of 120 users whose ratings are preference · wine + noise of 0.15, `shown` aspects per wine."""
    from sklearn.datasets import load_wine

    if not 0 <= shown <= ASPECTS:
        raise ValueError(f"a wine has {ASPECTS} aspects; {shown} cannot be shown.")
    found, generator = load_wine(), torch.Generator().manual_seed(seed)
    wines = torch.tensor(found.data, dtype=torch.float32)
    wines = (wines - wines.mean(0)) / wines.std(0)
    order = torch.rand(wines.shape, generator=generator).argsort(1).argsort(1)
    preference = (torch.randn(USERS, ASPECTS, generator=generator) / 0.35).softmax(1)
    pick = torch.rand(USERS, len(wines), generator=generator).argsort(1)[:, : TRAIN + TEST]
    rating = (preference @ wines.T).gather(1, pick) + 0.15 * torch.randn(pick.shape, generator=generator)
    user = torch.arange(USERS)[:, None].expand_as(pick)
    parts = [
        tuple(each[:, part].flatten() for each in (user, pick, rating)) for part in (slice(TRAIN), slice(TRAIN, None))
    ]
    return Tasting(wines, torch.tensor(found.target), order < shown, preference, *parts)


def seen_of(data, graph):
    """(states, shown) of all wines, with the graph wine–cultivar–wine or without."""
    state = data.wines * data.shown
    return filled(state, data.shown, data.cultivar[:, None] == data.cultivar) if graph else (state, data.shown)


class Taster(nn.Module):
    """rating = mean + user's bias + wine's bias + attention over aspects. arm: one of ARMS."""

    def __init__(self, data, arm):
        super().__init__()
        if arm not in ARMS:
            raise ValueError(f"an arm is one of {', '.join(ARMS)}; got {arm!r}.")
        self.asks = arm.startswith("guided")
        self.state, self.shown = seen_of(data, arm.endswith("graph"))
        self.mean = data.training[2].mean()
        self.bias = nn.ParameterList([torch.zeros(USERS), torch.zeros(len(data.wines))])
        # A key per aspect is a unit vector: the score of an aspect is a number of the user's own.
        self.user, self.slope = nn.Parameter(torch.zeros(USERS, ASPECTS)), nn.Parameter(torch.ones(1))

    def forward(self, user, wine):
        query = self.user[user] if self.asks else torch.zeros(len(user), ASPECTS)
        found, _ = guided(query, torch.eye(ASPECTS), self.state[wine][..., None], self.shown[wine])
        return self.mean + self.bias[0][user] + self.bias[1][wine] + self.slope * found[:, 0]


def trained(arm, shown, seed, steps=300, rate=0.05, decay=0.02):
    """(model, root mean squared error on the test ratings) after training on all ratings at once, Adam."""
    torch.manual_seed(seed)
    data = tasting(shown, seed)
    model = Taster(data, arm)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    user, wine, rating = data.training
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        penalty = sum((each**2).sum() for each in model.bias) + 0.1 * (model.user**2).sum()
        loss = ((model(user, wine) - rating) ** 2).mean() + decay * penalty / USERS
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    user, wine, rating = data.test
    with torch.no_grad():
        return model, ((model(user, wine) - rating) ** 2).mean().sqrt().item()


def agreement(model, data):
    """The mean cosine of a user's weights over all aspects with the true preferences."""
    weight = model.user.detach().softmax(1)
    return torch.cosine_similarity(weight, data.preference, dim=1).mean().item()
