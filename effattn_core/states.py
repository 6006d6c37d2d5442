"""What decoding carries from token to token: the protocol that all states keep, and the states that topics share.

A layer owns one state and asks one thing of it, by the kind of the layer:

- attention calls `attend(query, key, value)`: take the new tokens in, return what each of them reads;
- gated retention calls `recur(query, key, value, log_gate, scale)`: (what each new token reads, the next state);
- a layer without keys of its own calls `look(query)`: read, take nothing in. One writer called `append(key, value)`.

So a cache that reads sparsely, evicts, or lies on several devices is another state of the same model.
"""

from dataclasses import dataclass

import torch

from effattn_core.attention import attention

WHOLE = {"window": None, "sinks": 0}  # the mask of a layer in which each token sees all before it


class State:
    """The protocol of every state, and what it answers unless it says otherwise.

    length: tokens taken in, so the position of the next one.
    mask: the `window` and `sinks` of the layer that it serves, which must be the layer's own.
    grows: whether its bytes grow with the text.
    nbytes: bytes reserved; kept_bytes: those of them that hold something.
    reorder, crop: return the state to go on with; a cache changes in place and returns itself.
    """

    length: int
    mask = WHOLE
    grows = False

    @property
    def nbytes(self):
        """Bytes reserved, filled or not."""
        return 0

    @property
    def kept_bytes(self):
        """Bytes that hold something: all that is reserved, in a state of one size."""
        return self.nbytes

    def reorder(self, rows):
        """The state of the batch items `rows`, int64 [new batch], repeats allowed: what a beam search keeps.

        Raises ValueError where that cannot be, as `crop` does.
        """
        raise ValueError(f"a {type(self).__name__} cannot be reordered: it does not keep batch items apart.")

    def crop(self, length):
        """The state as it was after the first `length` tokens: drafts that were rejected are taken back.

        Raises ValueError for a length that it has not reached, or where what came before is gone.
        """
        self._reached(length)
        if length == self.length:
            return self
        raise ValueError(
            f"a {type(self).__name__} of {self.length} tokens cannot be cropped to {length}: "
            "it does not keep tokens apart. Keep a copy from before the draft."
        )

    def _reached(self, length):
        if not 0 <= length <= self.length:
            raise ValueError(f"a state of {self.length} tokens can be cropped to 0..{self.length}; {length} was asked.")


def kept_bytes(states):
    """Bytes that decoding keeps: the filled part of every cache, and all of every window or memory, summed."""
    return sum(state.kept_bytes for state in states)


class KeyValueCache(State):
    """Keys and values of the tokens so far, in storage reserved once; `key`, `value` view the filled part.

    window, sinks: of a layer that sees no more than those, as in `attention`; None sees all. It keeps everything.
    """

    grows = True

    def __init__(
        self, batch, heads, capacity, head_dim, value_dim=None, *, window=None, sinks=0, dtype=torch.float32,
        device=None,
    ):  # fmt: skip
        self._key = torch.empty(batch, heads, capacity, head_dim, dtype=dtype, device=device)
        self._value = torch.empty(batch, heads, capacity, value_dim or head_dim, dtype=dtype, device=device)
        self.length, self.capacity, self.mask = 0, capacity, dict(window=window, sinks=sinks)

    def append(self, key, value):
        """Add key: [batch, heads, new, head_dim] and value. Raises ValueError past capacity or for another shape."""
        new, end = key.shape[2], self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.length} of {self.capacity} tokens; {new} more do not fit.")
        for name, given, stored in (("key", key, self._key), ("value", value, self._value)):
            wanted = (*stored.shape[:2], new, stored.shape[3])
            if given.shape != wanted or given.dtype != stored.dtype:
                raise ValueError(f"{name} must be {wanted} {stored.dtype}; it is {tuple(given.shape)} {given.dtype}.")
        self._key[:, :, self.length : end], self._value[:, :, self.length : end] = key, value
        self.length = end

    def look(self, query):
        """What the newest tokens read of all that is kept: query [batch, heads, time, head_dim], of the last `time`."""
        return attention(query, self.key, self.value, **self.mask)

    def attend(self, query, key, value):
        """Take in new tokens, and what each of them reads. Shapes as in `attention`, key and value with its heads."""
        self.append(key, value)
        return self.look(query)

    @property
    def key(self):
        return self._key[:, :, : self.length]

    @property
    def value(self):
        return self._value[:, :, : self.length]

    @property
    def nbytes(self):
        """Bytes reserved, filled or not."""
        return self._key.nbytes + self._value.nbytes

    @property
    def kept_bytes(self):
        return self.key.nbytes + self.value.nbytes


class WindowCache(State):
    """Keys and values of the last `window` tokens, a ring that each new token overwrites at its oldest place.

    Turned keys may lie in any order for a single query, which sees them all; more queries get them put in order.
    """

    def __init__(self, batch, heads, window, head_dim, value_dim=None, *, dtype=torch.float32, device=None):
        self._key = torch.empty(batch, heads, window, head_dim, dtype=dtype, device=device)
        self._value = torch.empty(batch, heads, window, value_dim or head_dim, dtype=dtype, device=device)
        self.length, self.window, self.mask = 0, window, dict(window=window, sinks=0)

    def attend(self, query, key, value):
        """Take in new tokens and attend from each to the window that ends with it. Shapes as in `attention`."""
        if query.shape[2] == 1:
            self._keep(key, value)
            filled = slice(0, min(self.length, self.window))
            return attention(query, self._key[:, :, filled], self._value[:, :, filled], causal=False)
        before = self._ordered()
        keys, values = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self._keep(key, value)
        return attention(query, keys, values, window=self.window)

    def _ordered(self):
        """(keys, values) of the last window - 1 tokens, oldest first: what the next query sees beside its own."""
        kept = torch.arange(max(0, self.length - self.window + 1), self.length, device=self._key.device)
        return self._key[:, :, kept % self.window], self._value[:, :, kept % self.window]

    def _keep(self, key, value):
        new = min(key.shape[2], self.window)
        self.length += key.shape[2]
        place = torch.arange(self.length - new, self.length, device=key.device) % self.window
        self._key[:, :, place], self._value[:, :, place] = key[:, :, -new:], value[:, :, -new:]

    @property
    def nbytes(self):
        """Bytes reserved: they do not grow with the text."""
        return self._key.nbytes + self._value.nbytes


@dataclass(frozen=True)
class SharedKeyValue(State):
    """The keys and values of a text that is read at once: what a cache would hold, without keeping it."""

    key: torch.Tensor
    value: torch.Tensor
    grows = True

    @property
    def length(self):
        return self.key.shape[2]

    @property
    def nbytes(self):
        return self.key.nbytes + self.value.nbytes

    def look(self, query):
        """What the last tokens of the text read: query [batch, heads, time, head_dim]."""
        return attention(query, self.key, self.value)


@dataclass(frozen=True)
class Memory(State):
    """What a recurrence keeps, of one size however long the text. memory: [batch, heads, key_dim, value_dim]."""

    memory: torch.Tensor
    length: int = 0

    @property
    def nbytes(self):
        return self.memory.nbytes
