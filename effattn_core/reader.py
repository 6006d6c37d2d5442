"""A language model that needs no training and no short memory: it looks up where the last letters stood before.

One attention layer with weights by hand. The key of a letter tells the letters before it, the query those that were
just read, the value the letter itself; so the output is what followed wherever the same letters stood, and only
far reads can help. Long caches are compared on it: a small trained model has never seen 64K tokens.
"""

import torch
from torch.nn import functional

LAGS = 8  # letters before a key that it tells
LETTERS = 64  # different ones at most: as many as a value has numbers


class Reader:
    """Two key heads tell the same letters in different words; each serves a query head for each of `orders`.

    orders: how many of the last letters a head looks for. sharpness: what each letter that agrees adds to a score, in
    nats. Raises ValueError for an alphabet of more than LETTERS.
    """

    head_dim, key_heads = 64, 2

    def __init__(self, alphabet, *, orders=(3, 4, 5, 6), sharpness=3.0, floor=0.02, seed=0):
        if alphabet > LETTERS:
            raise ValueError(f"a value has {LETTERS} numbers, one a letter; the alphabet has {alphabet}.")
        self.alphabet, self.orders, self.sharpness, self.floor = alphabet, orders, sharpness, floor
        generator = torch.Generator().manual_seed(seed)
        words = torch.randn(self.key_heads, alphabet, self.head_dim // LAGS, generator=generator)
        self._last = None
        self.words = words / words.norm(dim=-1, keepdim=True)  # [key_heads, alphabet, 8]

    @property
    def heads(self):
        return self.key_heads * len(self.orders)

    def _told(self, text):
        """The words of the LAGS letters that end at each place: [key_heads, time, LAGS, 8], zero before the text."""
        words = self.words[:, text]
        lags = [functional.pad(words, (0, 0, lag, 0))[:, : len(text)] for lag in range(LAGS)]
        return torch.stack(lags, 2)

    def key_value(self, text):
        """Keys and values of a text, int64 [time]: [1, key_heads, time, 64] each."""
        told = functional.pad(self._told(text)[:, :-1], (0, 0, 0, 0, 1, 0))  # of the letters before
        value = functional.one_hot(text, self.head_dim).float()
        return told.flatten(2)[None], value.expand(1, self.key_heads, -1, -1).contiguous()

    def query(self, text):
        """The query after the last letter of `text`: [1, heads, 1, 64]."""
        told = self._told(text[-LAGS:])[:, -1]  # [key_heads, LAGS, 8]
        wanted = torch.tensor([[lag < order for lag in range(LAGS)] for order in self.orders])
        query = told[:, None] * wanted[None, :, :, None]
        return self.sharpness * self.head_dim**0.5 * query.flatten(2).reshape(1, self.heads, 1, self.head_dim)

    def distribution(self, output):
        """The next letter's, from attention's output [1, heads, 1, 64]: the mean of the heads, mixed with a guess."""
        told = output[0, :, 0, : self.alphabet].double().clamp(min=0).mean(0)
        return (1 - self.floor) * told / told.sum().clamp(min=1e-9) + self.floor / self.alphabet

    def fill(self, cache, text):
        """A cache, new, with the keys and values of `text`; returned. Those of the last text are kept for the next."""
        if self._last is None or self._last[0] is not text:
            self._last = text, self.key_value(text)
        cache.append(*self._last[1])
        return cache


def plain_letters(text):
    """Lower case, and a space for whatever is rare: an alphabet that fits a Reader."""
    text = text.lower()
    common = sorted(sorted(set(text)), key=lambda letter: -text.count(letter))[: LETTERS - 8]
    table = {ord(letter): letter if letter in common else " " for letter in set(text)}
    return text.translate(table)
