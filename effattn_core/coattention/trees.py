"""Trees over a sentence (after LARSON, rebuilt from a review): who did it to whom, asked over two parses that may err.

The graph attention of LARSON adds a number of the asker to a number of the answerer, so every asker ranks its
neighbours alike. Distance in a tree enters as a bias, and the words of a pair as a product of two attentions.
"""

import random
from dataclasses import dataclass

import torch
from torch.nn import functional

from effattn_core.coattention.attend import attend

NAMES = tuple("Ada Ben Cleo Dan Eve Finn Gil Hal Ida Jon Kim Leo Mae Ned Ora Pia Quin Ray Sue Tom".split())
VERBS = tuple("sees helps calls meets hears warns thanks seeks knows likes".split())
FAR = 50.0  # the distance between words that a broken parse leaves apart


def tree_mask(heads):
    """bool [words, words]: the edges of a dependency tree in both directions, and each word with itself.

    heads: the place of each word's head, -1 for the root's. Raises ValueError for a place outside the sentence.
    """
    if any(not -1 <= head < len(heads) for head in heads):
        raise ValueError(f"a head is a place from 0 to {len(heads) - 1}, or -1 for the root's; these are {heads}.")
    mask = torch.eye(len(heads), dtype=torch.bool)
    for word, head in enumerate(heads):
        if head >= 0:
            mask[word, head] = mask[head, word] = True
    return mask


def distances(mask):
    """float64 [words, words]: the edges between two words, FAR where there is no path."""
    found = torch.where(mask, 1.0, FAR).double().fill_diagonal_(0)
    for middle in range(len(mask)):  # Floyd and Warshall
        found = torch.minimum(found, found[:, middle, None] + found[None, middle])
    return found.clamp(max=FAR)


def graph_attention(hidden, weight, asker, answerer, mask):
    """Graph attention with added scores (eq. coattention-gat): (output, weights).

    hidden: [words, dim]   weight: [dim, width]   asker, answerer: [width]   mask: bool [words, words].
    score_ij = LeakyReLU(asker · W h_i + answerer · W h_j): increasing in the second term, whatever i.
    """
    mapped = hidden @ weight
    score = functional.leaky_relu((mapped @ asker)[:, None] + (mapped @ answerer)[None], 0.2)
    query, key = mapped.new_zeros(len(hidden), 1), mapped.new_zeros(len(hidden), 1)
    return attend(query, key, mapped, bias=score, mask=mask)[:2]


def order(row, mask):
    """The places that a row sees, most weight first."""
    return [each for each in row.argsort(descending=True, stable=True).tolist() if mask[each]]


def by_distance(query, key, value, apart, decay):
    """Attention with a bias of -λ · tree distance.   apart: [asks, answers]; decay: λ ≥ 0, 0 for no tree at all."""
    return attend(query, key, value, bias=-decay * apart)


def common(head_weight, tail_weight):
    """The context of a pair: two attentions multiplied, and made to sum to 1 again. [..., words] each."""
    both = head_weight * tail_weight
    return both / both.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Sentence:
    """words; heads: of the dependency tree; spans: constituents, (start, stop); facts: (agent, verb, patient)."""

    words: tuple
    heads: tuple
    spans: tuple
    facts: tuple

    @property
    def verbs(self):
        return [place for place, word in enumerate(self.words) if word in VERBS]

    def damaged(self, error, rng):
        """The same words after a bad parser: each head and each span is replaced by a random one with `error`."""
        count = len(self.words)
        heads = [rng.randrange(count) if rng.random() < error else head for head in self.heads]
        spans = [self._any_span(rng) if rng.random() < error else span for span in self.spans]
        return Sentence(self.words, tuple(heads), tuple(spans), self.facts)

    def _any_span(self, rng):
        start, stop = sorted(rng.sample(range(len(self.words) + 1), 2))
        return start, stop


def sentence(rng, depth=2, nest=0.7, owned=0.3):
    """A Sentence of S → NP V NP, NP → name [of name] [who V NP | whom NP V], relative clauses at most `depth` deep."""
    words, heads, spans, facts = [], [], [], []

    def add(word, head=-1):
        words.append(word)
        heads.append(head)
        return len(words) - 1

    def noun(depth):
        """The place of the head of a new NP."""
        start = head = add(rng.choice(NAMES))
        if rng.random() < owned:
            of = add("of", head)
            heads[add(rng.choice(NAMES))] = of
            spans.append((of, len(words)))
        if depth and rng.random() < nest:
            clause, passive = len(words), rng.random() < 0.5
            pronoun = add("whom" if passive else "who")
            inner = noun(depth - 1) if passive else None
            verb = add(rng.choice(VERBS), head)
            heads[pronoun] = verb
            inner = inner if passive else noun(depth - 1)
            heads[inner] = verb
            facts.append((inner, verb, head) if passive else (head, verb, inner))
            if not passive:
                spans.append((verb, len(words)))
            spans.append((clause, len(words)))
        spans.append((start, len(words)))
        return head

    agent = noun(depth)
    verb = add(rng.choice(VERBS))
    patient = noun(depth)
    heads[agent] = heads[patient] = verb
    facts.append((agent, verb, patient))
    spans.extend([(verb, len(words)), (0, len(words))])
    return Sentence(tuple(words), tuple(heads), tuple(spans), tuple(facts))


def features(parsed, agent, patient):
    """float64 [verbs, 4]: for a pair, of each verb: words to the agent, words to the patient, the sum of both tree
    distances, and how many constituents stand around the verb within the smallest that holds the pair."""
    apart = distances(tree_mask(list(parsed.heads)))
    low, high = min(agent, patient), max(agent, patient)
    holding = [span for span in parsed.spans if span[0] <= low and high < span[1]] or [(0, len(parsed.words))]
    home = min(holding, key=lambda span: span[1] - span[0])
    rows = []
    for verb in parsed.verbs:
        if home[0] <= verb < home[1]:
            inside = [span for span in parsed.spans if home[0] <= span[0] and span[1] <= home[1] and span != home]
            deep = sum(span[0] <= verb < span[1] for span in inside)
        else:
            deep = 10
        path = apart[agent, verb] + apart[verb, patient]
        rows.append([abs(verb - agent), abs(verb - patient), path.clamp(max=20.0).item(), deep])
    return torch.tensor(rows, dtype=torch.float64)


COLUMNS = {
    "linear": (0, 1),
    "dependency": (2,),
    "constituency": (3,),
    "both trees": (2, 3),
    "all": (0, 1, 2, 3),
}


def asked(count, seed, depth=2, error=0.0):
    """Pairs of `count` sentences, padded: (features [pairs, verbs, 4], mask [pairs, verbs], the right verb [pairs])."""
    rng, rows, right = random.Random(seed), [], []
    for _ in range(count):
        true = sentence(rng, depth)
        parsed = true.damaged(error, rng)
        for agent, verb, patient in true.facts:
            rows.append(features(parsed, agent, patient))
            right.append(true.verbs.index(verb))
    table = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(table.shape[1]) < torch.tensor([len(each) for each in rows])[:, None]
    return table, mask, torch.tensor(right)


def attention_over_verbs(table, mask, weight):
    """(weights, log_sum_exp) over verbs: query `weight`, key their features, scale 1. [pairs, verbs], [pairs]."""
    query = weight.expand(len(table), 1, -1)
    _, found, log_sum_exp = attend(query, table, table, mask=mask[:, None], scale=1.0)
    return found[:, 0], log_sum_exp[:, 0]


def fitted(table, mask, right, columns, steps=60):
    """The query that makes the right verbs most likely, by LBFGS with a slight decay. Returns [columns]."""
    table = table[..., list(columns)]
    weight = torch.zeros(len(columns), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=steps, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        _, log_sum_exp = attention_over_verbs(table, mask, weight)
        taken = table[torch.arange(len(table)), right] @ weight
        loss = (log_sum_exp - taken).mean() + 1e-3 * (weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def accuracy(table, mask, right, weight, columns):
    """The share of pairs whose right verb has the most weight; where several have, the expectation of a draw."""
    found, _ = attention_over_verbs(table[..., list(columns)], mask, weight)
    best = (found >= found.max(-1, keepdim=True).values - 1e-12) & mask
    return (best[torch.arange(len(right)), right] / best.sum(-1)).mean().item()
