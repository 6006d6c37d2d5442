"""Keys and values in the plays: a small language whose far past must be recalled, for a model trained in a minute.

A text is letters of the plays; in every cell of CELL letters two are replaced by a key and its value. Within a text a
key always has the same value. Half of the keys are new; the others have been named before, mostly a little while ago,
as the distance d in cells has odds of d ** -2. So a model of short texts learns to look a key up, and what follows a
long memory seldom asks for it.
"""

import functools

import torch

from effattn_core.data import Characters, shakespeare, split
from effattn_core.focus.model import condense, predict
from effattn_core.focus.training import Condensing, Lessons
from effattn_core.model import LanguageModel, configuration
from effattn_core.train import train

KEYS, VALUES, CELL = 64, 16, 8
WINDOW, CHUNK, LOCAL, PROMPT = 128, 64, 32, 16
SIZES = dict(width=64, layers=2, heads=4, key_value_heads=4, head_dim=16, feed_forward=176, context=WINDOW)


@functools.cache
def letters():
    """(alphabet, training letters, held-out letters): the plays, a token per letter."""
    text = shakespeare()
    alphabet = Characters(text)
    return alphabet, *split(alphabet.encode(text))


def vocabulary():
    """Tokens: the letters, then KEYS keys, then VALUES values."""
    return len(letters()[0]) + KEYS + VALUES


def texts(batch, time, generator, *, held_out=False):
    """`batch` texts of `time` tokens: int64 [batch, time]. held_out: of the plays' end, which is not trained on."""
    return pairs(batch, time, generator, held_out=held_out)[0]


def pairs(batch, time, generator, *, held_out=False):
    """(texts, keys, values): `texts`, and the key and value of each of its cells, [batch, cells], counted from 0.

    Raises ValueError for a time of less than one cell.
    """
    if time < CELL:
        raise ValueError(f"a text has at least one cell of {CELL} tokens; {time} were asked.")
    alphabet, training, rest = letters()
    source, cells = rest if held_out else training, -(-time // CELL)
    start = torch.randint(len(source) - cells * CELL, (batch, 1), generator=generator)
    text = source[start + torch.arange(cells * CELL)].unflatten(1, (cells, CELL))
    keys = _keys(batch, cells, generator)
    values = torch.randint(VALUES, (batch, KEYS), generator=generator).gather(1, keys)
    place = torch.randint(CELL - 1, (batch, cells, 1), generator=generator)
    text = text.scatter(2, place, len(alphabet) + keys[..., None])
    text = text.scatter(2, place + 1, len(alphabet) + KEYS + values[..., None])
    return text.flatten(1)[:, :time], keys, values


def _keys(batch, cells, generator):
    """Which key each cell names: [batch, cells]."""
    fresh = torch.rand(batch, KEYS, generator=generator).argsort(1)
    again = torch.rand(batch, cells, generator=generator) < 0.5
    keys, used, row = torch.empty(batch, cells, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64), None
    row = torch.arange(batch)
    for cell in range(cells):
        keys[:, cell] = fresh[row, used % KEYS]
        if cell:
            odds = torch.arange(1, cell + 1).double() ** -2
            back = torch.multinomial(odds, batch, replacement=True, generator=generator) + 1
            keys[:, cell] = torch.where(again[:, cell], keys[row, cell - back], keys[:, cell])
            used += ~again[:, cell]
        else:
            used += 1
    return keys


class Texts:
    """Endless batches of short texts for `effattn_core.train`: (tokens, targets), each [batch, time]."""

    def __init__(self, batch, time, seed=0):
        self.batch, self.time, self.generator = batch, time, torch.Generator().manual_seed(seed)

    def __iter__(self):
        return self

    def __next__(self):
        tokens = texts(self.batch, self.time + 1, self.generator)
        return tokens[:, :-1], tokens[:, 1:]
