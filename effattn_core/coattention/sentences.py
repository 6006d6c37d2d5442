"""Pooling in small: halves of Shakespeare's speeches find each other, their vectors pooled in one way or another."""

import collections
import functools
import math

import torch
from torch import nn
from torch.nn import functional

from effattn_core.coattention.attend import attend
from effattn_core.coattention.pooling import column_weights
from effattn_core.plays import plays

LONGEST, RARE, HELD = 24, 8, 8  # tokens of a half with its end; least count of a word; plays held out
POOLS = ("mean", "last", "sum", "log", "norm")


@functools.cache
def halves():
    """(training pairs, held-out pairs, words): int64 [pairs, 2, LONGEST], 0 pads, 1 ends, 2 is a rare word.

    Speeches of at least 24 words; each half's first words with an end token. The last plays of the order are held out.
    """
    texts = [[speech.words for speech in play.speeches if len(speech.words) >= 24] for play in plays()]
    count = collections.Counter(word for play in texts[:-HELD] for words in play for word in words)
    number = {word: 3 + place for place, word in enumerate(sorted(w for w, n in count.items() if n >= RARE))}

    def coded(words):
        found = [number.get(word, 2) for word in words[: LONGEST - 1]] + [1]
        return found + [0] * (LONGEST - len(found))

    def pairs(part):
        return torch.tensor(
            [[coded(w[: len(w) // 2]), coded(w[len(w) // 2 :])] for play in part for w in play]
        )  # fmt: skip

    return pairs(texts[:-HELD]), pairs(texts[-HELD:]), 3 + len(number)


class Encoder(nn.Module):
    """A vector per sentence by two layers of attention. pool: one of POOLS; causal: whether later tokens are hidden."""

    def __init__(self, words, pool="mean", causal=True, dim=48, heads=4):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"a pool is one of {', '.join(POOLS)}; got {pool!r}.")
        self.pool, self.causal, self.heads = pool, causal, heads
        self.word, self.place = nn.Embedding(words, dim), nn.Parameter(0.02 * torch.randn(LONGEST, dim))
        nn.init.normal_(self.word.weight, std=0.3)
        self.mixes = nn.ModuleList([nn.Linear(dim, 4 * dim) for _ in range(2)])
        self.feeds = nn.ModuleList(
            [nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)) for _ in range(2)]
        )

    def forward(self, tokens):
        """Unit vectors [sentences, dim] of tokens [sentences, LONGEST]."""
        there = tokens != 0
        seen = there[:, None, None, :]
        if self.causal:
            seen = seen & torch.ones(LONGEST, LONGEST, dtype=torch.bool).tril()
        hidden = self.word(tokens) + self.place
        for mix, feed in zip(self.mixes, self.feeds, strict=True):
            parts = mix(functional.layer_norm(hidden, hidden.shape[-1:])).chunk(4, -1)
            query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts[:3])
            output, weight, _ = attend(query, key, value, mask=seen)
            hidden = hidden + output.transpose(1, 2).flatten(2) * parts[3].sigmoid()
            hidden = hidden + feed(functional.layer_norm(hidden, hidden.shape[-1:]))
        return functional.normalize((self.shares(weight, there)[:, None] @ hidden)[:, 0], dim=-1)

    def shares(self, weight, there):
        """The weight of each token, [sentences, LONGEST], 0 for padding. weight: of the last layer."""
        if self.pool == "mean":
            return there / there.sum(1, keepdim=True)
        if self.pool == "last":
            return functional.one_hot(there.sum(1) - 1, LONGEST).float()
        rows = weight.mean(1) * there[:, :, None]  # what padding looks at does not count
        found = column_weights(rows, self.pool) * there
        if self.pool == "norm":  # rows that see token j: as many as follow it in the sentence itself
            seen_by = (there.sum(1, keepdim=True) - torch.arange(LONGEST)).clamp(min=1)
            found = rows.sum(1) / seen_by * there
        return found / found.sum(1, keepdim=True)


def trained(pool, causal, seed, steps=150, batch=64, temperature=0.1, rate=3e-3):
    """An Encoder trained by InfoNCE within the batch, from a seed."""
    torch.manual_seed(seed)
    pairs, _, words = halves()
    model, generator = Encoder(words, pool, causal), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        first, second = pairs[torch.randint(len(pairs), (batch,), generator=generator)].unbind(1)
        logits = model(first) @ model(second).mT / temperature
        optimizer.zero_grad()
        functional.cross_entropy(logits, torch.arange(batch)).backward()
        optimizer.step()
    return model


@torch.no_grad()
def rank(model, count=1000):
    """The mean reciprocal rank of a held-out half's other half among `count`. Chance is about ln(count) / count."""
    pairs = halves()[1]
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:count]]
    first, second = model(pairs[:, 0]), model(pairs[:, 1])
    score = first @ second.mT
    place = (score > score.diagonal()[:, None]).sum(1) + 1
    return (1 / place).mean().item()


def chance(count=1000):
    """The mean reciprocal rank of a guess: H_count / count."""
    return (math.log(count) + 0.5772 + 1 / (2 * count)) / count
