"""R-VQA in small: four digits, the facts of who lies beside whom, some of them wrong, and a question about one."""

import functools

import torch
from torch import nn
from torch.nn import functional

from effattn_core.coattention.attend import attend
from effattn_core.latents.digits import data_of_digits

RELATIONS = ("left of", "right of", "above", "below")
ARMS = ("visual only", "semantic only", "parallel", "sequential")
# Of the 2 × 2 places: (subject, relation, object) of the eight facts.
BESIDE = ((0, 0, 1), (2, 0, 3), (1, 1, 0), (3, 1, 2), (0, 2, 2), (1, 2, 3), (2, 3, 0), (3, 3, 1))


@functools.cache
def _digits():
    """(training images, labels, held-out images, labels), 14 × 14 and flat, in [0, 1], sorted by label."""
    found, parts = data_of_digits(), []
    for images, labels in ((found.images, found.labels), (found.held_images, found.held_labels)):
        order = labels.argsort(stable=True)
        parts += [functional.avg_pool2d(images / 2 + 0.5, 2).flatten(1)[order], labels[order]]
    return tuple(parts)


def draw(count, noise, generator, *, held=False):
    """A batch: a dict of regions [count, 4, 200], facts int64 [count, 8, 3], asked [count, 2], answer [count], digits.

    Four different digits in the places of a square; of each fact every element is replaced at random with probability
    `noise`. Asked: a relation and its object; the answer: the digit of which that is true.
    Raises ValueError for a noise outside [0, 1].
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is a probability, in [0, 1]; got {noise}.")
    images, labels = _digits()[2:] if held else _digits()[:2]
    digits = torch.rand(count, 10, generator=generator).argsort(1)[:, :4]
    per = len(labels) // 10
    pick = digits * per + torch.randint(per, (count, 4), generator=generator)
    regions = torch.cat([images[pick], 4 * torch.eye(4).expand(count, -1, -1)], 2)
    beside = torch.tensor(BESIDE)
    facts = torch.stack(
        [digits[:, beside[:, 0]], beside[:, 1].expand(count, -1), digits[:, beside[:, 2]]], 2
    )  # [count, 8, 3]
    chosen = torch.randint(8, (count, 1, 1), generator=generator)
    subject, relation, object_ = facts.gather(1, chosen.expand(-1, 1, 3))[:, 0].unbind(1)
    other = torch.stack([torch.randint(n, (count, 8), generator=generator) for n in (10, 4, 10)], 2)
    wrong = torch.rand(count, 8, 3, generator=generator) < noise
    order = torch.rand(count, 8, generator=generator).argsort(1)[:, :, None].expand(-1, -1, 3)
    told = torch.where(wrong, other, facts).gather(1, order)
    return dict(regions=regions, facts=told, asked=torch.stack([relation, object_], 1), answer=subject, digits=digits)


class RelationQA(nn.Module):
    """The model of `fusion.two_hops` with embeddings before it and a head after it. arm: one of ARMS."""

    def __init__(self, arm="sequential", hidden=64, dim=48):
        super().__init__()
        if arm not in ARMS:
            raise ValueError(f"an arm is one of {', '.join(ARMS)}; got {arm!r}.")
        self.arm = arm
        self.digit, self.relation = nn.Embedding(10, dim), nn.Embedding(4, dim)
        self.see, self.question = nn.Linear(200, dim), nn.Linear(2 * dim, dim)
        self.keys = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(3 * dim, hidden)])
        self.asks = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(dim, hidden)])
        self.weights = nn.Parameter(torch.randn(2, hidden))
        self.then, self.visual, self.semantic = nn.Linear(dim, dim), nn.Linear(dim, hidden), nn.Linear(3 * dim, hidden)
        self.out = nn.Linear(hidden, 10)

    def hop(self, number, question, answer):
        """(what is found, its weights): one query per example, scale 1."""
        query = self.weights[number] * self.asks[number](question).tanh()
        found, weight, _ = attend(query[:, None], self.keys[number](answer).tanh(), answer, scale=1.0)
        return found[:, 0], weight[:, 0]

    def told(self, facts):
        """Facts as vectors: subject, relation and object side by side, [count, facts, 3 dim]."""
        return torch.cat([self.digit(facts[..., 0]), self.relation(facts[..., 1]), self.digit(facts[..., 2])], -1)

    def look(self, batch):
        """(logits, weights over regions, weights over facts)."""
        asked = torch.cat([self.relation(batch["asked"][:, 0]), self.digit(batch["asked"][:, 1])], 1)
        question, total, of_regions, of_facts = self.question(asked).relu(), 0, None, None
        then = question
        if self.arm != "semantic only":
            found, of_regions = self.hop(0, question, self.see(batch["regions"]).relu())
            then = found * self.then(question).tanh()
            total = total + self.visual(then).tanh()
        if self.arm != "visual only":
            asking = then if self.arm == "sequential" else question
            found, of_facts = self.hop(1, asking, self.told(batch["facts"]))
            total = total + self.semantic(found).tanh()
        return self.out(total), of_regions, of_facts

    def forward(self, batch):
        return self.look(batch)[0]


def trained(arm, noise, seed, steps=600, batch=64, rate=4e-3):
    """A RelationQA trained from a seed on facts of that noise, Adam, the rate falling to 0."""
    torch.manual_seed(seed)
    model, generator = RelationQA(arm), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        given = draw(batch, noise, generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(given), given["answer"]).backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model, noise, seed, count=2000):
    """The share of right answers on held-out digits."""
    given = draw(count, noise, torch.Generator().manual_seed(1000 + seed), held=True)
    return (model(given).argmax(1) == given["answer"]).float().mean().item()
