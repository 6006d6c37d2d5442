"""Mentions of the plays whose name has several bearers, with vectors: what example weights and slots are tried on."""

import functools
from collections import Counter
from dataclasses import dataclass

import torch

from effattn_core.mentions import bearers, entities, mentions
from effattn_core.plays import plays
from effattn_core.signals.word_vectors import WordVectors

MOST = 7  # bearers of a name, at most


@dataclass(frozen=True)
class Mentions:
    """Ambiguous mentions. candidates: entity numbers [count, MOST], -1 where there is none; targets: place of the right
    one among them [count]; vectors: of the contexts [count, dim]; act: [count]; features [count, MOST, dim + 3] of each
    candidate: product of both vectors, their cosine, words in common by rarity, log of its mentions in acts I and II.
    Features of a candidate that is none are infinite.
    """

    candidates: torch.Tensor
    targets: torch.Tensor
    vectors: torch.Tensor
    act: torch.Tensor
    features: torch.Tensor


@functools.cache
def word_vectors(dim=50):
    """Vectors of the words of all speeches."""
    return WordVectors([speech.words for play in plays() for speech in play.speeches], dim=dim)


@functools.cache
def described():
    """Vectors of the entities' descriptions, unit [entities, dim], their common mean taken out."""
    return _centred([word_vectors().mean(entity.text) for entity in entities()])


def _centred(vectors):
    """Contexts and descriptions differ as kinds of text; without their means they can be compared."""
    stacked = torch.stack(vectors)
    return torch.nn.functional.normalize(stacked - stacked.mean(0), dim=1)


@functools.cache
def ambiguous():
    """All mentions of names with two bearers or more, as Mentions, in the order of the plays."""
    names = {entity.name: bearers(entity.name) for entity in entities()}
    names = {name: found for name, found in names.items() if len(found) > 1}
    kept = [each for each in mentions() if each.name in names]
    early = Counter(each.entity for each in mentions() if each.act <= 2)
    found, texts = word_vectors(), [set(entity.text) for entity in entities()]
    candidates = torch.full((len(kept), MOST), -1)
    vectors = _centred([found.mean(each.context) for each in kept])
    features = torch.full((len(kept), MOST, vectors.shape[1] + 3), torch.inf)
    for row, each in enumerate(kept):
        context = set(each.context)
        for place, entity in enumerate(names[each.name]):
            product = vectors[row] * described()[entity]
            shared = found.rarity[found.numbers(sorted(context & texts[entity]))].sum() / 10
            more = torch.tensor([product.sum(), shared, torch.tensor(1.0 + early[entity]).log()])
            features[row, place] = torch.cat([5 * product, more])
            candidates[row, place] = entity
    targets = torch.tensor([names[each.name].index(each.entity) for each in kept])
    return Mentions(candidates, targets, vectors, torch.tensor([each.act for each in kept]), features)
