"""Entity linking in two steps: a bi-encoder that retrieves k of all entities, a cross-encoder that re-ranks them.

The bi-encoder is attention without values: the mention is the query, every entity a key, and the weights themselves are
the answer. In training the keys are the golds of a batch, and a mask takes out those that are the gold twice.
The survey (2109.12520) sorts linkers by three axes; its abstract is all that was read of it. The data are
`effattn_core.mentions`: the plays know who is meant.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from effattn_core.mentions import bearers, entities, mentions
from effattn_core.plays import plays
from effattn_core.signals.word_vectors import information

DIM, TOP, TEMPERATURE = 64, 16, 0.05  # numbers per vector; candidates that are re-ranked; of the bi-encoder's softmax
RARE, WINDOW, LONGEST = 4, 5, 320  # least count of a word; words beside it that count; words of a description
HELD_OUT = 14  # plays that no training sees


def in_batch_loss(query, key, gold, temperature=TEMPERATURE):
    """Cross-entropy of each mention over the golds of its batch: -log softmax_j(q_i·k_j / T) at j = i.

    query, key: [batch, dim], mention i and its own gold; gold: [batch] int64, the golds' numbers. Where another row has
    the same gold, its key is masked: it is no wrong answer.
    """
    return functional.cross_entropy(_in_batch_scores(query, key, gold) / temperature, torch.arange(len(query)))


def in_batch_accuracy(query, key, gold):
    """The share of mentions that find their gold among the golds of the batch: not the accuracy of a linker."""
    return (_in_batch_scores(query, key, gold).argmax(1) == torch.arange(len(query))).double().mean().item()


def _in_batch_scores(query, key, gold):
    twice = (gold[:, None] == gold) & ~torch.eye(len(gold), dtype=torch.bool)
    return (query @ key.mT).masked_fill(twice, float("-inf"))


def ranks(scores, gold):
    """The place of each mention's gold among all entities, from 0: [mentions]. Equal scores count against it.

    scores: [mentions, entities]; gold: [mentions] int64.
    """
    own = scores.gather(1, gold[:, None])
    return (scores >= own).sum(1) - 1


def recall(places, k):
    """R@k: the share of mentions whose gold is among the first k. places: [mentions], as of `ranks`."""
    return (places < k).double().mean().item()


def normalised_accuracy(right, places, k):
    """The share that is right of the mentions whose gold is among the first k: what a re-ranker could change.

    right: [mentions] bool. End to end, accuracy = R@k · normalised accuracy. nan where no gold is among them.
    """
    inside = places < k
    return (right & inside).double().sum().item() / inside.sum().item() if inside.any() else float("nan")


@dataclass(frozen=True)
class Texts:
    """Texts as words: names [texts] and words [texts, longest], numbers of a vocabulary, 0 for none."""

    names: torch.Tensor
    words: torch.Tensor


@dataclass(frozen=True)
class World:
    """All that a linker reads, cut by plays. vectors: [words, DIM], by PPMI and SVD; idf: [words], 0 for the word 0.

    people: Texts of all entities; said: Texts of all mentions; gold: [mentions] int64. training, test: numbers of
    mentions: all of the plays that are seen, those of acts III to V of the plays that are held out.
    """

    vectors: torch.Tensor
    idf: torch.Tensor
    people: Texts
    said: Texts
    gold: torch.Tensor
    training: torch.Tensor
    test: torch.Tensor


@functools.lru_cache(maxsize=4)
def world(seed=0, held_out=HELD_OUT):
    """The plays' mentions with `held_out` of the plays, drawn by `seed`, kept for the test."""
    titles = [play.title for play in plays()]
    order = torch.randperm(len(titles), generator=torch.Generator().manual_seed(seed)).tolist()
    unseen = {titles[each] for each in order[:held_out]}
    # What the vectors are made of: no word of what is tested, acts III to V of the plays that are held out.
    texts = [speech.words for play in plays() for speech in play.speeches if play.title not in unseen or speech.act < 3]
    number, vectors = _vectors(texts, {entity.name.lower() for entity in entities()})
    people = _texts([(each.name, each.text[:LONGEST]) for each in entities()], number)
    said = _texts([(each.name, each.context) for each in mentions()], number)
    found = torch.bincount(people.words.flatten().unique(), minlength=len(vectors)) * 0.0
    for row in people.words:
        found[row.unique()] += 1
    idf = torch.log(len(people.words) / (1 + found))
    idf[0] = 0
    seen = torch.tensor([each.play not in unseen for each in mentions()])
    late = torch.tensor([each.act >= 3 for each in mentions()])
    gold = torch.tensor([each.entity for each in mentions()])
    return World(vectors, idf, people, said, gold, seen.nonzero()[:, 0], (~seen & late).nonzero()[:, 0])


def _texts(pairs, number):
    rows = [torch.tensor([number[each] for each in text if each in number] or [0]) for _, text in pairs]
    names = torch.tensor([number[name.lower()] for name, _ in pairs])
    return Texts(names, nn.utils.rnn.pad_sequence(rows, batch_first=True))


def _vectors(texts, wanted):
    """(word -> number, [words, DIM]): vectors whose products approach the positive pointwise mutual information."""
    from scipy import sparse
    from scipy.sparse.linalg import svds

    count = {}
    for text in texts:
        for word in text:
            count[word] = count.get(word, 0) + 1
    kept = sorted(word for word in count.keys() | wanted if count.get(word, 0) >= RARE or word in wanted)
    number = {word: place for place, word in enumerate(kept, 1)}
    size = len(number) + 1
    rows = [np.array([number.get(word, 0) for word in text]) for text in texts]
    left = np.concatenate([row[:-apart] for apart in range(1, WINDOW + 1) for row in rows])
    right = np.concatenate([row[apart:] for apart in range(1, WINDOW + 1) for row in rows])
    both = (left > 0) & (right > 0)
    pairs = sparse.coo_matrix((np.ones(both.sum()), (left[both], right[both])), (size, size)).tocsr()
    left, strength, _ = svds(information(pairs + pairs.T), k=DIM, rng=np.random.default_rng(0))
    vectors = torch.tensor(left * np.sqrt(strength), dtype=torch.float32)
    return number, functional.normalize(vectors, dim=1)


class BiEncoder(nn.Module):
    """f of a mention and g of an entity: [texts, DIM] of length 1, so that their product is the score.

    Each is a linear map of a mean of word vectors by idf; both share the vectors. The name is one word of the mean,
    or, where `apart`, it keeps half of what the map reads for itself.
    """

    def __init__(self, vectors, idf, apart=False):
        super().__init__()
        self.vectors, self.apart = nn.Embedding.from_pretrained(vectors.clone(), freeze=False), apart
        self.register_buffer("idf", idf)
        halves = 2 if apart else 1
        self.mention, self.entity = (nn.Linear(halves * DIM, DIM, bias=False) for _ in range(2))
        for each in (self.mention, self.entity):  # untrained: the mean itself, or the sum of both halves
            each.weight.data = torch.cat([torch.eye(DIM)] * halves, 1)

    def forward(self, texts, rows, side):
        """side: "mention" or "entity"; rows: which of the texts, int64."""
        name, words = texts.names[rows][:, None], texts.words[rows]
        if self.apart:
            read = torch.cat([functional.normalize(self._mean(each), dim=1) for each in (name, words)], 1)
        else:
            read = self._mean(torch.cat([name, words], 1))
        return functional.normalize(getattr(self, side)(read), dim=1)

    def _mean(self, words):
        weight = self.idf[words][:, :, None]
        return (weight * self.vectors(words)).sum(1) / weight.sum(1).clamp(min=1e-6)

    @torch.no_grad()
    def scores(self, found, rows):
        """Each mention of `rows` against all entities of a World: [rows, entities]."""
        keys = self(found.people, torch.arange(len(found.people.names)), "entity")
        return self(found.said, rows, "mention") @ keys.mT


def trained_bi_encoder(found, *, apart=False, epochs=6, batch=64, rate=1e-3, seed=0):
    """A BiEncoder after `epochs` over the training mentions of a World, its negatives the other golds of a batch."""
    model = BiEncoder(found.vectors, found.idf, apart)
    optimizer, dice = torch.optim.Adam(model.parameters(), lr=rate), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in found.training[torch.randperm(len(found.training), generator=dice)].split(batch):
            gold = found.gold[rows]
            query, key = model(found.said, rows, "mention"), model(found.people, gold, "entity")
            optimizer.zero_grad()
            in_batch_loss(query, key, gold).backward()
            optimizer.step()
    return model


def features(model, found, rows, candidates):
    """What the re-ranker reads of a mention and a candidate: [rows, k, 2·DIM + 3].

    m ⊙ e, |m - e|, whether the name is the entity's, the idf of the words that both texts hold, and the product m·e.
    candidates: [rows, k] int64, numbers of entities.
    """
    mention = model(found.said, rows, "mention")[:, None]
    entity = model(found.people, torch.arange(len(found.people.names)), "entity")[candidates]
    same = found.said.names[rows][:, None] == found.people.names[candidates]
    words = found.said.words[rows]
    bags = torch.zeros(len(found.people.names), len(found.idf)).scatter_(1, found.people.words, 1.0)
    overlap = (bags[candidates[:, :, None], words[:, None]] * found.idf[words][:, None]).sum(-1, keepdim=True) / 10
    score = (mention * entity).sum(-1, keepdim=True)
    return torch.cat([mention * entity, (mention - entity).abs(), same[..., None].float(), overlap, score], -1)


def with_gold(candidates, gold):
    """(candidates, place of the gold): the gold takes the last place where it is not among them already."""
    inside = candidates == gold[:, None]
    candidates = candidates.clone()
    missing = ~inside.any(1)
    candidates[missing, -1] = gold[missing]
    return candidates, (candidates == gold[:, None]).int().argmax(1)


def trained_cross_encoder(model, found, *, top=TOP, epochs=6, batch=64, rate=1e-3, seed=0, random_negatives=False):
    """A re-ranker of a bi-encoder's first `top`, an MLP over `features`, trained on those of the training mentions.

    random_negatives: whether it is trained on entities drawn at random in place of those the bi-encoder takes for it.
    """
    generator, rows = torch.Generator().manual_seed(seed), found.training
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(2 * DIM + 3, 64), nn.GELU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    if random_negatives:
        candidates = torch.randint(len(found.people.names), (len(rows), top), generator=generator)
    else:
        candidates = model.scores(found, rows).topk(top).indices
    candidates, place = with_gold(candidates, found.gold[rows])
    with torch.no_grad():
        read = features(model, found, rows, candidates)
    for _ in range(epochs):
        for part in torch.randperm(len(rows), generator=generator).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(head(read[part])[..., 0], place[part]).backward()
            optimizer.step()
    return head


@torch.no_grad()
def reranked(head, model, found, rows, top=TOP):
    """The entity that the re-ranker puts first of the bi-encoder's `top`: [rows] int64."""
    candidates = model.scores(found, rows).topk(top).indices
    best = head(features(model, found, rows, candidates))[..., 0].argmax(1, keepdim=True)
    return candidates.gather(1, best)[:, 0]


def among_bearers(scores, rows):
    """Of the rows whose name has several bearers: {row's place: the bearer with the highest score}.

    scores: [rows, entities].
    """
    found, all_mentions = {}, mentions()
    for place, row in enumerate(rows.tolist()):
        who = bearers(all_mentions[row].name)
        if len(who) > 1:
            found[place] = who[int(scores[place, who].argmax())]
    return found


def prior():
    """[entities]: how often each is mentioned in acts I and II, which no test reads."""
    count = torch.zeros(len(entities()))
    for each in mentions():
        if each.act < 3:
            count[each.entity] += 1
    return count
