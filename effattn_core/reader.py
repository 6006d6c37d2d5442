"""A language model that needs no training and no short memory: it looks up where the last letters stood before.

One attention layer with weights by hand. The key of a letter encodes the letters before it, the query those just read,
the value the letter itself; so the output is what followed wherever the same letters stood, and only far reads can
help. Long caches are compared on it: a small trained model has never seen 64K tokens.
"""

import torch
from torch.nn import functional

LAGS = 8  # letters before a key that it encodes
LETTERS = 64  # different ones at most: as many as a value has numbers


class Reader:
    """Two key heads encode the same letters with different random codes; each serves a query head for each of `orders`.

    orders: how many of the last letters a head looks for. sharpness: what each letter that agrees adds to a score, in
    nats. Raises ValueError for an alphabet of more than LETTERS.
    """

    head_dim, key_heads = 64, 2

    def __init__(self, alphabet, *, orders=(3, 4, 5, 6), sharpness=3.0, floor=0.02, seed=0):
        if alphabet > LETTERS:
            raise ValueError(f"a value has {LETTERS} numbers, one per letter; the alphabet has {alphabet}.")
        self.alphabet, self.orders, self.sharpness, self.floor = alphabet, orders, sharpness, floor
        generator = torch.Generator().manual_seed(seed)
        codes = torch.randn(self.key_heads, alphabet, self.head_dim // LAGS, generator=generator)
        self._last = None  # (text, its keys and values): of the one that `fill` was given last
        self.codes = codes / codes.norm(dim=-1, keepdim=True)  # [key_heads, alphabet, 8]

    @property
    def heads(self):
        return self.key_heads * len(self.orders)

    def _encoded(self, text):
        """The codes of the LAGS letters that end at each place: [key_heads, time, LAGS, 8], zero before the text."""
        codes = self.codes[:, text]
        lags = [functional.pad(codes, (0, 0, lag, 0))[:, : len(text)] for lag in range(LAGS)]
        return torch.stack(lags, 2)

    def key_value(self, text):
        """Keys and values of a text, int64 [time]: [1, key_heads, time, 64] each."""
        key = functional.pad(self._encoded(text)[:, :-1], (0, 0, 0, 0, 1, 0))  # of the letters before
        value = functional.one_hot(text, self.head_dim).float()
        return key.flatten(2)[None], value.expand(1, self.key_heads, -1, -1).contiguous()

    def query(self, text):
        """The query after the last letter of `text`: [1, heads, 1, 64]."""
        codes = self._encoded(text[-LAGS:])[:, -1]  # [key_heads, LAGS, 8]
        wanted = torch.tensor([[lag < order for lag in range(LAGS)] for order in self.orders])
        query = codes[:, None] * wanted[None, :, :, None]
        return self.sharpness * self.head_dim**0.5 * query.flatten(2).reshape(1, self.heads, 1, self.head_dim)

    def distribution(self, output):
        """The next letter's, from attention's output [1, heads, 1, 64]: the mean of the heads, mixed with a guess."""
        mean = output[0, :, 0, : self.alphabet].double().clamp(min=0).mean(0)
        return (1 - self.floor) * mean / mean.sum().clamp(min=1e-9) + self.floor / self.alphabet

    def fill(self, cache, text):
        """Append the keys and values of `text` to an empty cache and return it; an equal text next time is quick."""
        if self._last is None or not torch.equal(self._last[0], text):
            self._last = text.clone(), self.key_value(text)
        cache.append(*self._last[1])
        return cache


def plain_letters(text):
    """Lower case, and a space for whatever is rare: an alphabet that fits a Reader."""
    text = text.lower()
    common = sorted(sorted(set(text)), key=lambda letter: -text.count(letter))[: LETTERS - 8]
    table = {ord(letter): letter if letter in common else " " for letter in set(text)}
    return text.translate(table)
