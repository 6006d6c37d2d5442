"""Style transfer as translation between two languages without pairs of sentences. Counts in place of networks.

After the abstract of "Style transfer as unsupervised machine translation" (arXiv 1808.07894), the only text that we
had; a RECONSTRUCTION. A table of word pairs comes from similar vectors and from each word's preference for a style;
back-translation then makes pairs whose output side is real text, and counts them into a new table.
"""

import math
from collections import Counter, defaultdict

import torch

from effattn_core.signals.word_vectors import WordVectors

MOST = 1.5  # nats, beyond which a word's preference counts no more
NEAR, SMOOTH = 8, 5.0  # neighbours per word; counts that the old table is worth


def preferences(first, second, words):
    """Log-odds of each word in the second style against the first, clipped (eq. signals-preference).

    first, second: lists of texts, each a list of words. Returns word -> preference in [-MOST, MOST].
    """
    counts = [Counter(word for text in texts for word in text) for texts in (first, second)]
    sizes = [sum(count.values()) + len(words) for count in counts]
    found = {}
    for word in words:
        odds = math.log((counts[1][word] + 1) / sizes[1]) - math.log((counts[0][word] + 1) / sizes[0])
        found[word] = max(-MOST, min(MOST, odds))
    return found


def seed_table(vectors: WordVectors, preference, sign, strength, near=NEAR):
    """word -> {word: probability}: itself and its neighbours, drawn to the target style (eq. signals-table).

    It is attention: a word queries, its neighbours are keys, strength · preference is the bias, all others are masked.
    sign: 1 if the second style is the target, -1 if the first. strength: λ, 0 or more.
    """
    if strength < 0:
        raise ValueError(f"the strength of the style is 0 or more; it is {strength}.")
    cosine = vectors.table @ vectors.table.T
    closest = cosine.topk(min(near + 1, len(vectors.words)), dim=1).indices
    bias = torch.tensor([strength * sign * preference[word] for word in vectors.words])
    weight = (cosine.gather(1, closest) / 0.15 + bias[closest]).softmax(1)
    return {
        word: dict(zip([vectors.words[other] for other in row], weights, strict=True))
        for word, row, weights in zip(vectors.words, closest.tolist(), weight.tolist(), strict=True)
    }


class Bigrams:
    """How likely a word is after another, in one style: counts, interpolated with those of single words."""

    def __init__(self, texts, share=0.7):
        self.share, self.single, self.double = share, Counter(), Counter()
        for text in texts:
            self.single.update(text)
            self.double.update(zip(["<s>", *text], text, strict=False))
        self.before = Counter()
        for (one, _), count in self.double.items():
            self.before[one] += count
        self.total = sum(self.single.values()) + len(self.single) + 1

    def log(self, before, word):
        """Log probability of `word` after `before`; "<s>" stands before the first."""
        alone = (self.single[word] + 1) / self.total
        after = self.double[before, word] / self.before[before] if self.before[before] else 0.0
        return math.log(self.share * after + (1 - self.share) * alone)


def score(text, output, table, style):
    """Log probability of an output of the same length: table's pairs, style's bigrams (eq. signals-decode)."""
    total = 0.0
    for word, before, after in zip(text, ["<s>", *output], output, strict=False):
        pair = table.get(word, {word: 1.0}).get(after, 0.0)
        total += (math.log(pair) if pair > 0 else -math.inf) + style.log(before, after)
    return total


def decode(text, table, style):
    """The output of the largest `score`, by Viterbi: for each possible last word the best way that ends in it.

    A word that the table lacks stays. Raises ValueError for a text without words.
    """
    if not text:
        raise ValueError("there is no word to translate.")
    best = {"<s>": (0.0, [])}
    for word in text:
        after = {}
        for choice, pair in table.get(word, {word: 1.0}).items():
            if pair > 0:
                before, (so_far, path) = max(best.items(), key=lambda each: each[1][0] + style.log(each[0], choice))
                after[choice] = (so_far + style.log(before, choice) + math.log(pair), [*path, choice])
        best = after
    return max(best.values(), key=lambda each: each[0])[1]


def back_translated(real, backward, source_style, forward, guide=None):
    """A new forward table from pairs (made-up source, real target) (eq. signals-back).

    real: texts of the target style, the output side; backward: the table from target to source, source_style: its
    bigrams; forward: the old table, with which counts are mixed. guide: from a made-up text to the probability that it
    is in the source style; pairs below one half are dropped, the others weighted by it.
    """
    counts = defaultdict(Counter)
    for text in real:
        made = decode(text, backward, source_style)
        weight = 1.0 if guide is None else guide(made)
        if weight > 0.5:
            for source, target in zip(made, text, strict=True):
                counts[source][target] += weight
    mixed = {}
    for word, old in forward.items():
        total = sum(counts[word].values())
        keys = dict.fromkeys([*old, *counts[word]])
        mixed[word] = {
            key: (counts[word][key] + SMOOTH * old.get(key, 0.0)) / (total + SMOOTH) for key in keys
        }  # fmt: skip
    return mixed
