"""Vectors of words counted from a text: positive mutual information of neighbours, and its leading directions."""

import math
from collections import Counter

import numpy
import scipy.sparse
import torch


class WordVectors:
    """Unit vectors of the frequent words of some texts, and how rare each word is.

    texts: lists of words. dim: numbers per word; window: neighbours on each side; least: texts a word must be in.
    words: the vocabulary, by frequency; table: float32 [words, dim], unit rows; rarity: log(texts / texts with it).
    Raises ValueError if fewer words than dimensions are left.
    """

    def __init__(self, texts, dim=50, window=4, least=3, most=6000):
        texts = [list(text) for text in texts]
        inside = Counter(word for text in texts for word in set(text))
        self.words = [word for word, count in sorted(inside.items(), key=lambda each: (-each[1], each[0]))
                      if count >= least][:most]  # fmt: skip
        if len(self.words) <= dim:
            raise ValueError(f"{len(self.words)} words occur in {least} texts or more; {dim} dimensions need more.")
        self.number = {word: place for place, word in enumerate(self.words)}
        self.rarity = torch.tensor([math.log(len(texts) / inside[word]) for word in self.words])
        leading = _leading(information(self._counts(texts, window)), dim)
        self.table = torch.nn.functional.normalize(torch.tensor(leading, dtype=torch.float32), dim=1)

    def _counts(self, texts, window):
        """Sparse [words, words]: how often two words stand within `window` of each other."""
        size, pairs = len(self.words), Counter()
        for text in texts:
            known = [self.number.get(word, -1) for word in text]
            for place, one in enumerate(known):
                if one >= 0:
                    pairs.update((one, other) for other in known[place + 1 : place + 1 + window] if other >= 0)
        rows, columns = zip(*pairs, strict=True)
        counts = scipy.sparse.coo_matrix((list(pairs.values()), (rows, columns)), (size, size), dtype=float)
        return (counts + counts.T).tocsr()

    def numbers(self, text):
        """The numbers of a text's words, int64 [known words]."""
        return torch.tensor([self.number[word] for word in text if word in self.number], dtype=torch.long)

    def mean(self, text):
        """Unit vector of a text, [dim]: the mean of its words, rare ones counting for more; zeros if none is known."""
        known = self.numbers(text)
        total = (self.rarity[known, None] * self.table[known]).sum(0)
        return torch.nn.functional.normalize(total, dim=0)


def information(counts):
    """Positive pointwise mutual information, max(0, log(p(a, b) / (p(a) p(b)))), at the entries of sparse `counts`."""
    entries, total = counts.tocoo(), counts.sum()
    share = numpy.asarray(counts.sum(1)).ravel()
    value = numpy.log(entries.data * total / (share[entries.row] * share[entries.col]))
    return scipy.sparse.csr_matrix((value.clip(min=0), (entries.row, entries.col)), counts.shape)


def _leading(matrix, dim):
    """[words, dim]: leading left singular vectors, scaled by the root of their values; the same in every run."""
    start = numpy.random.default_rng(0).standard_normal(matrix.shape[0])
    left, values, _ = scipy.sparse.linalg.svds(matrix, k=dim, v0=start)
    return left * numpy.sqrt(values)
