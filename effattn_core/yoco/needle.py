"""A needle in a haystack: facts hidden in the plays, asked for at the end, as a task to train on and to measure.

A fact is one token that names a key and its value, put in the place of a letter; a question names a key, and the answer
is its value. What was read far behind must be found again by what it says, not by where it stands. A fact comes as one
token, and not as two, so that what is tested is how far a model reaches, and not whether it can tie neighbours.
"""

import torch
from torch import nn

from effattn_core.data import IGNORED
from effattn_core.model import build, configuration

KEYS = VALUES = 16

# Models of one task, nearly equal in parameters. The one with windows alone sees 3 · 15 letters back in all.
MODELS = {
    "Transformer": dict(layers=3, feed_forward=153),
    "window alone": dict(layers=3, feed_forward=153, window=16),
    "RetNet": dict(layers=3, mixer="retention", key_value_heads=4, feed_forward=111),
    "YOCO, window": dict(layers=4, cross_layers=2, window=16, feed_forward=104),
    "YOCO, gated": dict(layers=4, cross_layers=2, mixer="gated", feed_forward=82),
}
SHARED = dict(width=64, heads=4, key_value_heads=2, head_dim=16)


class FactEmbedding(nn.Module):
    """The vector of a letter, of a question's key, or of a fact: that of its key and that of its value, added."""

    def __init__(self, letters, width):
        super().__init__()
        self.letters = letters
        self.word, self.value = nn.Embedding(letters + KEYS, width), nn.Embedding(VALUES + 1, width)
        for table in (self.word, self.value):
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, tokens):
        fact = tokens - self.letters - KEYS  # key · VALUES + value, below 0 for a letter or a question
        word = torch.where(fact < 0, tokens, self.letters + fact // VALUES)
        return self.word(word) + self.value(torch.where(fact < 0, VALUES, fact % VALUES))


def needle_model(name, letters, context, **changes):
    """A model of MODELS that reads letters, facts and questions, answers with values. ValueError for other names."""
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(MODELS)}; it is {name!r}.")
    model = build(configuration("tiny", VALUES, **{**SHARED, **MODELS[name], "context": context, **changes}))
    model.embedding = FactEmbedding(letters, model.sizes.width)
    return model


def hidden_facts(text, batch, time, generator, *, letters, facts=8, depth=None):
    """(tokens, targets), each [batch, time]: `facts` facts in a window of `text`, then a question for each.

    text: int64 below `letters`, the haystack. Facts have different keys and stand at places drawn at random before the
    questions; depth: in [0, 1], the share of the haystack before the first of them, which then is asked for first.
    Targets are values where a key is asked for, -100 elsewhere. Raises ValueError where they do not fit.
    """
    haystack = time - facts
    if not 1 <= facts <= min(KEYS, haystack):
        raise ValueError(f"{facts} facts and as many questions do not fit {time} tokens and {KEYS} keys.")
    if len(text) < haystack:
        raise ValueError(f"the haystack needs {haystack} letters; the text has {len(text)}.")
    start = torch.randint(len(text) - haystack + 1, (batch, 1), generator=generator)
    order = torch.rand(batch, haystack, generator=generator)
    if depth is not None:
        order[:, round(depth * (haystack - 1))] = -1.0  # the first of all places
    places = order.argsort(1)[:, :facts]
    key = torch.rand(batch, KEYS, generator=generator).argsort(1)[:, :facts]
    value = torch.randint(VALUES, (batch, facts), generator=generator)
    hidden = text[start + torch.arange(haystack)].scatter(1, places, letters + KEYS + key * VALUES + value)
    order = torch.rand(batch, facts, generator=generator)
    if depth is not None:
        order[:, 0] = -1.0
    order = order.argsort(1)
    tokens = torch.cat([hidden, letters + key.gather(1, order)], 1)
    targets = torch.cat([torch.full_like(hidden, IGNORED), value.gather(1, order)], 1)
    return tokens, targets


class NeedleBatches:
    """Endless batches of `hidden_facts`, of one of `times` each, `tokens` tokens per batch.

    Its `generator` is its whole state, as `effattn_core.train` wants it.
    """

    def __init__(self, text, tokens, times, seed=0, **settings):
        self.text, self.tokens, self.times, self.settings = text, tokens, list(times), settings
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        time = self.times[torch.randint(len(self.times), (), generator=self.generator)]
        return hidden_facts(self.text, self.tokens // time, time, self.generator, **self.settings)


@torch.no_grad()
def found(model, text, time, *, letters, depth, batch=64, seed=1, facts=8):
    """Share of the facts at `depth` in texts of `time` tokens that a model finds: answers to the first question."""
    generator = torch.Generator().manual_seed(seed)
    tokens, targets = hidden_facts(text, batch, time, generator, letters=letters, facts=facts, depth=depth)
    asked, device = time - facts, next(model.parameters()).device
    answers = [model.prefill(part[:, : asked + 1].to(device))[0][:, -1].argmax(-1).cpu() for part in tokens.split(16)]
    return (torch.cat(answers) == targets[:, asked]).double().mean().item()
