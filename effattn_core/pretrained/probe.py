"""Looking into a trained model as it reads: its queries and keys, where its attention goes, its loss under a mask.

Each probe is another state of the same model, see `effattn_core.states`: no hook, no second forward pass.
"""

import torch
from torch.nn import functional

from effattn_core.attention import attention
from effattn_core.calls import require_count
from effattn_core.data import shakespeare
from effattn_core.states import KeyValueCache


def passages(tokenizer, count, length, *, letters=6):
    """`count` passages of the plays, evenly spaced: int64 [count, length] tokens.

    letters: most letters per token, so that enough text is encoded. Raises ValueError if the plays are too short.
    """
    require_count("count", count)
    require_count("length", length)
    text = shakespeare()
    apart = len(text) // count
    if apart < letters * length:
        raise ValueError(f"the plays hold {len(text):,} letters; {count} passages of {length:,} tokens do not fit.")
    starts = [text.index("\n", number * apart) + 1 for number in range(count)]
    return torch.tensor([tokenizer.encode(text[start : start + letters * length]).ids[:length] for start in starts])


def hidden_numbers(tokenizer, text, length, *, numbers, depths, seed=0):
    """Numbers of five digits, hidden in a text and asked for at its end: per number a list, one entry per depth.

    text: tokens, [time] int64, of which each number takes another stretch. depths: where a number stands, from 0, the
    beginning, to 1. An entry: (the tokens to read, length - 1 of them; those to give then, one by one; those that
    should be the likeliest after each). Seeded.
    """

    def coded(words):
        return torch.tensor(tokenizer.encode(words).ids, device=text.device)

    dice, question = torch.Generator().manual_seed(seed), "\n\nThe secret number is"
    ask = coded(question)
    for number in range(numbers):
        found = []
        for depth in depths:
            secret = " ".join(map(str, torch.randint(10, (5,), generator=dice).tolist()))
            fact, answer = coded(f"{question} {secret}.\n\n"), coded(f" {secret}")
            hay = text[number * length // 8 :][: length - len(fact) - len(ask)]
            place = int(depth * len(hay))
            prompt = torch.cat([hay[:place], fact, hay[place:], ask])
            found.append((prompt[:-1], torch.cat([prompt[-1:], answer[:-1]]), answer))
        yield found


class Recorder(KeyValueCache):
    """A cache that keeps the queries of the last read beside the keys and values: `query` [batch, heads, time, D]."""

    query = None

    def look(self, query):
        self.query = query.detach()
        return super().look(query)


class MaskedCache(KeyValueCache):
    """A cache of a layer that sees everything, read as if it had a window and sinks (which `seen` names)."""

    def __init__(self, *shape, seen, **settings):
        super().__init__(*shape, **settings)
        self.seen = seen

    def look(self, query):
        return attention(query, self.key, self.value, **self.seen)


def states_of(model, make, *, batch=1, context=None, **settings):
    """A state per layer of a model of plain attention: `make` is called with the sizes of a KeyValueCache."""
    sizes, like = model.sizes, model.head.weight
    shape = (batch, sizes.key_value_heads, context or sizes.context, sizes.head_dim)
    return [make(*shape, dtype=like.dtype, device=like.device, **settings) for _ in model.blocks]


@torch.no_grad()
def recorded(model, tokens):
    """The Recorder of each layer after reading tokens: [batch, time] int64."""
    states = states_of(model, Recorder, batch=len(tokens), context=tokens.shape[1])
    return model.read(model.embedding(tokens), states)[1]


def attention_weights(state, rows=None):
    """The attention of a Recorder's queries over its keys: [batch, heads, queries, time], causal, float32.

    rows: positions of the queries, int64; None for all.
    """
    query, key = state.query, state.key
    rows = torch.arange(query.shape[2], device=query.device) if rows is None else rows
    shared = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = (query[:, :, rows] @ shared.mT).float() * query.shape[-1] ** -0.5
    unseen = torch.arange(key.shape[2], device=query.device) > rows[:, None]
    return scores.masked_fill(unseen, float("-inf")).softmax(-1)


@torch.no_grad()
def token_losses(model, tokens, *, window=None, sinks=0, chunk=512):
    """Loss in nats of each token but the first: [batch, time - 1] float32, the text read through a window and sinks.

    tokens: [batch, time] int64; the first `sinks` keys and the last `window` are seen, None for all. Positions are
    those of the text. chunk: tokens whose logits are made at once.
    """
    seen = dict(window=window, sinks=sinks)
    states = states_of(model, MaskedCache, batch=len(tokens), context=tokens.shape[1], seen=seen)
    losses = []
    for start in range(0, tokens.shape[1] - 1, chunk):
        part, targets = tokens[:, start : start + chunk], tokens[:, start + 1 : start + chunk + 1]
        logits, states = model(part[:, : targets.shape[1]], states)
        losses.append(functional.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none"))
    return torch.cat(losses, 1)


@torch.no_grad()
def mass_within(state, distances, *, rows, first=0):
    """The share of attention that falls on the nearest tokens: [len(distances), heads], the mean over rows and batch.

    distances: n counts the query itself and the n - 1 tokens before it. first: keys that are left out of the whole,
    as sinks are, which hold most of a trained head's attention and say nothing of distance.
    """
    weight = attention_weights(state, rows)
    weight[..., :first] = 0
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
    distance = rows[:, None] - torch.arange(weight.shape[-1], device=rows.device)
    return torch.stack([(weight * (distance < n)).sum(-1).mean((0, 2)) for n in distances])
