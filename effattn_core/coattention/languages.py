"""Languages (after KI for G-XLT, rebuilt from its abstract): triples of one language each leave a turn undetermined.

A triple says that the entity `head` has the `relation` to the entity `tail`. Each entity has a picture, or a name, in
each language. Where every triple stays in one language, all languages share the relations and nothing else; a turn of
one language that commutes with every relation then changes no score of any triple (`gauge`).
"""

import functools
import math

import torch
from torch import nn
from torch.nn import functional

from effattn_core.coattention.attend import attend
from effattn_core.latents.digits import data_of_digits, small_digits

COUNT, FREQUENCIES, RELATIONS = 10, (1, 2, 3), (1, 2, 3)  # digits; planes that turn; relations: digit + 1, 2, 3 mod 10
PAIRS = tuple((head, tail) for head in (0, 1) for tail in (0, 1))


def rotation(steps, count=COUNT, frequencies=FREQUENCIES):
    """Block-diagonal float64 [2 planes, 2 planes]: plane m turns by 2π m `steps` / `count`."""
    angle = [2 * math.pi * frequency * steps / count for frequency in frequencies]
    cos, sin = (torch.tensor([f(each) for each in angle], dtype=torch.float64) for f in (math.cos, math.sin))
    return torch.block_diag(
        *(torch.stack([torch.stack([c, -s]), torch.stack([s, c])]) for c, s in zip(cos, sin, strict=True))
    )


def cycle(count=COUNT, frequencies=FREQUENCIES):
    """Entities on a cycle, float64 [count, 2 planes]: entity d is R_d e_0, of length 1; R_r takes d to d + r."""
    start = torch.tensor([1.0, 0.0] * len(frequencies), dtype=torch.float64) / len(frequencies) ** 0.5
    return torch.stack([rotation(each, count, frequencies) @ start for each in range(count)])


def tail_scores(heads, tails, relation):
    """Scores of link prediction (eq. coattention-gauge): (head R_rᵀ) · tail.   [heads, dim], [tails, dim], [dim, dim]

    As attention: query head R_rᵀ, key tail, scale 1; with one-hot values the output is the distribution over tails.
    """
    return heads @ relation.mT @ tails.mT


def drawn_languages(count, mixed, generator):
    """int64 [count, 2]: the language, 0 or 1, of the head and of the tail of each triple.

    mixed: the share of triples in which each element draws its own; all others draw once. Raises ValueError outside
    [0, 1]. Half of the mixed triples agree by chance, so all four pairs appear.
    """
    if not 0 <= mixed <= 1:
        raise ValueError(f"mixed is a share of triples, in [0, 1]; it is {mixed}.")
    each = torch.randint(0, 2, (count, 2), generator=generator)
    once = torch.rand(count, generator=generator) >= mixed
    each[once, 1] = each[once, 0]
    return each


@functools.cache
def pictures():
    """Per language (training images, labels, held images, held labels): MNIST at 14 × 14, digits of 8 × 8."""
    first, second = data_of_digits(), small_digits()

    def flat(images):
        small = functional.avg_pool2d(images, 2) if images.shape[-1] == 28 else images
        return small.flatten(1)

    return tuple((flat(each.images), each.labels, flat(each.held_images), each.held_labels) for each in (first, second))


class Encoders(nn.Module):
    """An encoder for each language into one space of `dim`, and a matrix for each relation."""

    def __init__(self, dim=32, hidden=128):
        super().__init__()
        self.languages = nn.ModuleList(
            nn.Sequential(nn.Linear(found[0].shape[1], hidden), nn.ReLU(), nn.Linear(hidden, dim))
            for found in pictures()
        )
        self.relations = nn.Parameter(torch.randn(len(RELATIONS), dim, dim) / dim**0.5)

    def encode(self, images, languages):
        """images: a pair of tensors, one per language, [count, pixels]; languages: [count]. Returns [count, dim]."""
        both = torch.stack([encoder(each) for encoder, each in zip(self.languages, images, strict=True)])
        return both[languages, torch.arange(len(languages))]

    def pointer(self, heads, relation, candidates):
        """Log-probabilities over candidates [count, candidates, dim]: attention with one-hot values, by its lse."""
        query = heads[:, None] @ self.relations[relation].mT
        scale = candidates.shape[-1] ** -0.5
        scores = scale * (query @ candidates.mT)[:, 0]
        return scores - attend(query, candidates, candidates, scale=scale)[2]


def _drawn(labels, generator, held=False):
    """Pictures of `labels` [...], a pair of tensors [..., pixels], one per language, drawn at random."""
    found = []
    for images, known, held_images, held_known in pictures():
        images, known = (held_images, held_known) if held else (images, known)
        order = torch.argsort(known, stable=True)
        counts = torch.bincount(known, minlength=COUNT)
        starts = counts.cumsum(0) - counts
        place = (torch.rand(labels.shape, generator=generator) * counts[labels]).long()
        found.append(images[order[starts[labels] + place]])
    return found


def _asked(model, generator, batch, choices, languages, held=False):
    """(log-probabilities [batch, choices], the right place): point at the tail among pictures of different digits."""
    heads = torch.randint(0, COUNT, (batch,), generator=generator)
    relation = torch.randint(0, len(RELATIONS), (batch,), generator=generator)
    tails = (heads + torch.tensor(RELATIONS)[relation]) % COUNT
    order = torch.rand(batch, COUNT, generator=generator).scatter(1, tails[:, None], -1.0).argsort(1)[:, :choices]
    order = order.gather(1, torch.rand(batch, choices, generator=generator).argsort(1))
    candidates = _drawn(order, generator, held)
    told = model.encode([each.flatten(0, 1) for each in candidates], languages[:, 1].repeat_interleave(choices))
    encoded = model.encode(_drawn(heads, generator, held), languages[:, 0])
    found = model.pointer(encoded, relation, told.view(batch, choices, -1))
    return found, (order == tails[:, None]).int().argmax(1)


def trained(seed, mixed, steps=300, batch=64):
    """Encoders whose question answering is taught in language 0 only. mixed: of triples; None for no triples at all."""
    torch.manual_seed(seed)
    model, generator = Encoders(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        found, right = _asked(model, generator, batch, 5, torch.zeros(batch, 2, dtype=torch.int64))
        loss = functional.nll_loss(found, right)
        if mixed is not None:
            found, right = _asked(model, generator, batch, COUNT, drawn_languages(batch, mixed, generator))
            loss = loss + functional.nll_loss(found, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def accuracy(model, head, tail, count=2000):
    """Of pointing among five held-out pictures, question in language `head`, candidates in language `tail`."""
    languages = torch.tensor([[head, tail]]).expand(count, 2)
    found, right = _asked(model, torch.Generator().manual_seed(1), count, 5, languages, held=True)
    return (found.argmax(1) == right).float().mean().item()


@torch.no_grad()
def likeness(model):
    """Cosines of the digits' mean codes, float32 [10 of language 1, 10 of language 0]: where its diagonal lies."""
    means = []
    for language, (_, _, images, labels) in enumerate(pictures()):
        codes = functional.normalize(model.languages[language](images), dim=-1)
        means.append(functional.normalize(torch.stack([codes[labels == each].mean(0) for each in range(COUNT)]), dim=1))
    return means[1] @ means[0].mT
