"""The replaced-token head as a classifier: DPT (Yao et al. 2022) in small.

ELECTRA's discriminator is trained to say of every token whether it was replaced. DPT writes all labels behind the text
and asks which of them looks least replaced: one pass, no new head, one bias per label. Here the discriminator is small:
a token's vector, the mean of all others in the window (attention with equal weights, the token itself masked) and their
product, then a dense layer. It is trained on the plays without act III of six of them; the task is to tell those six.
"""

import functools
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.plays import plays

TASK = {  # play -> its label word
    "Hamlet": "denmark",
    "Macbeth": "scotland",
    "Julius Caesar": "rome",
    "The Merchant of Venice": "venice",
    "Henry V": "france",
    "Romeo and Juliet": "tybalt",
}
WINDOW, KNOWN, DIM, REPLACED = 32, 4000, 64, 0.3
STEPS, BATCH, RATE = 1000, 128, 3e-3
TUNING_STEPS, TUNING_RATE = 60, 1e-3
ARMS = ("label words", "shuffled words", "untrained tokens", "fresh head")


def label_probabilities(logits, position, bias):
    """P(label k) = 1 - σ(z_k + b_k), z_k the logit of "replaced" at the label's token (eq. signals-dpt).

    logits: [batch, time], of "replaced"; position: int [labels], of the labels' first tokens; bias: [labels].
    Returns [batch, labels]; they need not sum to 1. Raises ValueError where position and bias differ in length.
    """
    if position.shape != bias.shape:
        raise ValueError(f"one bias per label: {tuple(position.shape)} positions and {tuple(bias.shape)} biases.")
    return 1 - torch.sigmoid(logits[:, position] + bias)


def label_loss(logits, position, bias, label):
    """The sum over labels of binary cross-entropies, the mean over a batch; the true label's token is "original"."""
    replaced = torch.ones(len(label), len(position)).scatter(1, label[:, None], 0.0).to(logits)
    scores = logits[:, position] + bias
    return functional.binary_cross_entropy_with_logits(scores, replaced, reduction="none").sum(-1).mean()


def best_bias(shares):
    """The biases that minimise `label_loss` where all logits are 0: log((1 - π_k) / π_k) (eq. signals-bias)."""
    return ((1 - shares) / shares).log()


class Discriminator(nn.Module):
    """The logit of "replaced" for each token of a window. words: of the vocabulary and of what is added to it."""

    def __init__(self, words, dim=DIM):
        super().__init__()
        self.vector = nn.Embedding(words, dim)
        nn.init.normal_(self.vector.weight, std=0.3)
        self.dense, self.head = nn.Linear(3 * dim, dim), nn.Linear(dim, 1)

    def features(self, tokens):
        """[batch, time, dim] of tokens [batch, time]."""
        own = self.vector(tokens)
        others = (own.sum(1, keepdim=True) - own) / (tokens.shape[1] - 1)
        return functional.gelu(self.dense(torch.cat([own, others, own * others * own.shape[-1] ** 0.5], -1)))

    def forward(self, tokens):
        """Logits [batch, time]."""
        return self.head(self.features(tokens))[..., 0]


@dataclass(frozen=True)
class Corpus:
    """places: word -> number; training: windows, int64 [n, WINDOW]; few, tested: (windows, labels) of the six plays."""

    places: dict
    training: torch.Tensor
    few: tuple
    tested: tuple

    @property
    def label_tokens(self):
        """The numbers of the six label words, int64 [6]."""
        return torch.tensor([self.places[word] for word in TASK.values()])


@functools.cache
def corpus():
    """The plays as windows. Act III of the six plays is for testing only; windows with a label word are left out there.

    Words that are none of the KNOWN most frequent, nor a label, have number 0.
    """
    count = {}
    for play in plays():
        for speech in play.speeches:
            for word in speech.words:
                count[word] = count.get(word, 0) + 1
    known = sorted(count, key=lambda word: (-count[word], word))[:KNOWN]
    places = {word: place for place, word in enumerate(dict.fromkeys([*known, *TASK.values()]), start=1)}
    labels, training, few, tested = list(TASK), [], [], []
    for play in plays():
        for third in (False, True):
            said = [w for s in play.speeches if (s.act == 3) == third for w in s.words]
            windows = [said[at : at + WINDOW] for at in range(0, len(said) - WINDOW + 1, WINDOW)]
            coded = [[places.get(word, 0) for word in each] for each in windows]
            held_out = third and play.title in TASK
            training += [] if held_out else coded
            if play.title in TASK:
                clean = [c for c, w in zip(coded, windows, strict=True) if not set(w) & set(TASK.values())]
                (tested if third else few).extend((each, labels.index(play.title)) for each in clean)
    few, tested = ((torch.tensor([a for a, _ in part]), torch.tensor([b for _, b in part])) for part in (few, tested))
    return Corpus(places, torch.tensor(training), few, tested)


def pretrained(seed, steps=STEPS, batch=BATCH):
    """(a trained Discriminator, its AUC on held-out windows). Words are replaced as often as they are said."""
    found, generator = corpus(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Discriminator(len(found.places) + 1 + len(TASK))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(steps):
        tokens = found.training[torch.randint(len(found.training), (batch,), generator=generator)]
        spoiled, replaced = corrupted(tokens, generator)
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(spoiled), replaced.float()).backward()
        optimizer.step()
    with torch.no_grad():
        spoiled, replaced = corrupted(found.tested[0], generator)
        return model, area(model(spoiled)[replaced], model(spoiled)[~replaced])


def corrupted(tokens, generator):
    """(tokens with REPLACED of them drawn anew, which ones differ now)."""
    everything = corpus().training.flatten()
    drawn = everything[torch.randint(len(everything), tokens.shape, generator=generator)]
    chosen = torch.rand(tokens.shape, generator=generator) < REPLACED
    spoiled = torch.where(chosen, drawn, tokens)
    return spoiled, spoiled != tokens


def area(high, low):
    """The probability that one of `high` is above one of `low`: the area under the curve, by ranks."""
    ranks = torch.cat([high, low]).argsort().argsort().double() + 1
    return ((ranks[: len(high)].sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low))).item()


def shown_labels(arm, seed, found=None):
    """The tokens that stand for the six labels in an arm of ARMS, int64 [6]."""
    found = found or corpus()
    if arm == "shuffled words":  # no label keeps its own word
        return found.label_tokens.roll(1 + seed % (len(TASK) - 1))
    if arm == "untrained tokens":
        return torch.arange(len(found.places) + 1, len(found.places) + 1 + len(TASK))
    return found.label_tokens


def with_labels(windows, labels):
    """Windows [batch, time] with the labels' tokens behind each, and the positions of these."""
    tokens = torch.cat([windows, labels.expand(len(windows), -1)], 1)
    return tokens, torch.arange(windows.shape[1], tokens.shape[1])


def tuned(model, arm, few, seed, steps=TUNING_STEPS):
    """A function from windows to scores [batch, 6], of a model that is tuned on `few` windows per label (0: none)."""
    import copy

    model, found = copy.deepcopy(model), corpus()
    torch.manual_seed(1000 + seed)
    bias, fresh = nn.Parameter(torch.zeros(len(TASK))), nn.Linear(DIM, len(TASK))
    labels = shown_labels(arm, seed)
    windows, wanted = examples(few, seed, found)

    def scores(tokens):
        if arm == "fresh head":
            return fresh(model.features(tokens).mean(1))
        longer, position = with_labels(tokens, labels)
        return label_probabilities(model(longer), position, bias)

    optimizer = torch.optim.Adam([*model.parameters(), bias, *fresh.parameters()], lr=TUNING_RATE)
    for _ in range(steps if few else 0):
        optimizer.zero_grad()
        if arm == "fresh head":
            loss = functional.cross_entropy(scores(windows), wanted)
        else:
            longer, position = with_labels(windows, labels)
            loss = label_loss(model(longer), position, bias, wanted)
        loss.backward()
        optimizer.step()
    return torch.no_grad()(scores)


def examples(few, seed, found=None):
    """`few` windows per label, drawn: (int64 [6 · few, WINDOW], labels)."""
    found = found or corpus()
    generator, chosen = torch.Generator().manual_seed(500 + seed), []
    for label in range(len(TASK)):
        places = (found.few[1] == label).nonzero()[:, 0]
        chosen.append(places[torch.randperm(len(places), generator=generator)[:few]])
    chosen = torch.cat(chosen)
    return found.few[0][chosen], found.few[1][chosen]


def accuracy(scores):
    """Of a function from windows to scores, on the test windows."""
    windows, labels = corpus().tested
    return (scores(windows).argmax(-1) == labels).float().mean().item()
