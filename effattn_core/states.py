"""What decoding carries from token to token: the protocol that all states keep, and the states that topics share.

A layer owns one state and asks one thing of it, by the kind of the layer:

- attention calls `attend(query, key, value)`: take the new tokens in, return what each of them reads;
- gated retention calls `recur(query, key, value, log_gate, scale)`: (what each new token reads, the next state);
- a layer without keys of its own calls `look(query)`: read, take nothing in. One writer called `append(key, value)`.

So a cache that reads sparsely, evicts, or lies on several devices is another state of the same model.
"""

import copy
import dataclasses
from dataclasses import dataclass

import torch

from effattn_core import calls
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

        Raises ValueError for rows that are not there, or a state that cannot be reordered.
        """
        raise ValueError(f"a {type(self).__name__} cannot be reordered; caches, windows and memories can.")

    def crop(self, length):
        """The state as it was after the first `length` tokens: drafts that were rejected are taken back.

        Raises ValueError for a length that it has not reached, or where what came before is gone.
        """
        self._require_reached(length)
        if length == self.length:
            return self
        raise ValueError(
            f"a {type(self).__name__} of {self.length} tokens cannot be cropped to {length}, for it does not keep "
            "tokens apart: copy it before a draft, and go on with the copy."
        )

    def _require_reached(self, length):
        if not 0 <= length <= self.length:
            raise ValueError(f"a state of {self.length} tokens can be cropped to 0..{self.length}; {length} was asked.")

    def __deepcopy__(self, memo):
        for name, held in vars(self).items():
            if isinstance(held, torch.Tensor) and held.grad_fn is not None:
                raise ValueError(
                    f"the {name} of a {type(self).__name__} has gradients, so it cannot be copied: "
                    "make it under torch.no_grad()."
                )
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(vars(self), memo))
        return other


def kept_bytes(states):
    """Bytes that decoding keeps: the filled part of every cache, and all of every window or memory, summed."""
    return sum(state.kept_bytes for state in states)


def sees_all(sizes):
    """Whether every layer of a Configuration's model is attention to all tokens before it, with a cache of its own.

    Trees of drafts and candidates of chunks are further rows of such caches, which other layers do not keep.
    """
    return sizes.mixer == "attention" and sizes.window is None and not sizes.cross_layers and sizes.loops == 1


def require_sizes(least=1, **sizes):
    """Raise ValueError unless each size is a whole number of at least `least`."""
    for name, size in sizes.items():
        if not hasattr(size, "__index__"):
            raise ValueError(f"{name} must be a whole number; it is {size!r}.")
        if size < least:
            raise ValueError(f"{name} must be at least {least}; it is {size}.")


def require_fit(name, given, stored):
    """Raise ValueError unless `given`, [batch, heads, new, size], is like `stored`, whose length may be another."""
    wanted = (*stored.shape[:2], "new", stored.shape[3])
    fits = given.ndim == 4 and (*given.shape[:2], given.shape[3]) == (*stored.shape[:2], stored.shape[3])
    if not fits or given.dtype != stored.dtype or given.device != stored.device:
        autocast = torch.is_autocast_enabled(given.device.type)
        raise ValueError(
            f"{name} must be [{', '.join(map(str, wanted))}] {stored.dtype} on {stored.device}; "
            f"it is {list(given.shape)} {given.dtype} on {given.device}"
            + (": decode without autocast, or in a model that has this dtype itself." if autocast else ".")
        )


def require_rows(rows, batch):
    """Raise ValueError unless `rows` are numbers of batch items. Values are checked on a CPU only."""
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise ValueError(f"rows must be int64 [new batch]; they are {rows.dtype} {list(rows.shape)}.")
    if rows.device.type == "cpu" and len(rows) and not 0 <= rows.min() <= rows.max() < batch:
        raise ValueError(f"rows must lie in 0..{batch - 1}; they go from {rows.min()} to {rows.max()}.")


def _refuse_gradient(grad):
    raise RuntimeError(
        "gradients do not pass through a cache: read the text at once without states, or call under torch.no_grad()."
    )


class _Cache(State):
    """Storage of keys and values, a row per token: what both kinds of cache share. It keeps numbers, not gradients."""

    def __init__(self, batch, heads, rows, head_dim, value_dim, dtype, device):
        value_dim = head_dim if value_dim is None else value_dim
        require_sizes(heads=heads, head_dim=head_dim, value_dim=value_dim)
        require_sizes(0, batch=batch)
        self._key = torch.empty(batch, heads, rows, head_dim, dtype=dtype, device=device)
        self._value = torch.empty(batch, heads, rows, value_dim, dtype=dtype, device=device)
        self.length, self._graded = 0, False

    def _require_fit(self, key, value):
        """Raise ValueError unless key and value are new rows of this storage."""
        require_fit("key", key, self._key)
        require_fit("value", value, self._value)
        if key.shape[2] != value.shape[2]:
            raise ValueError(f"each token has a key and a value; got {key.shape[2]} and {value.shape[2]}.")

    def _write(self, place, key, value):
        """Put rows at `place`, a slice or indices."""
        if calls.wants_gradient(key, value):
            self._graded = True
        self._key[:, :, place], self._value[:, :, place] = key.detach(), value.detach()

    def _read(self, stored, place):
        """Rows to read; a backward pass that comes to them is refused, for it would silently miss what made them."""
        rows = stored[:, :, place]
        if self._graded and torch.is_grad_enabled():
            rows = rows.detach().requires_grad_()
            rows.register_hook(_refuse_gradient)
        return rows

    def _rows(self, place):
        """(keys, values) at `place`."""
        return self._read(self._key, place), self._read(self._value, place)

    def reorder(self, rows):
        require_rows(rows, len(self._key))
        self._key, self._value = self._key[rows], self._value[rows]
        return self

    @property
    def nbytes(self):
        """Bytes reserved, filled or not; those of a window do not grow with the text."""
        return self._key.nbytes + self._value.nbytes


class KeyValueCache(_Cache):
    """Keys and values of the tokens so far, in storage reserved once; `key`, `value` view the filled part.

    batch, heads, capacity in tokens, head_dim, value_dim (None: head_dim): its sizes. window, sinks: of a layer that
    sees no more than those, as in `attention`; it keeps everything. Raises ValueError for sizes that make no sense.
    """

    grows = True

    def __init__(
        self, batch, heads, capacity, head_dim, value_dim=None, *, window=None, sinks=0, dtype=torch.float32,
        device=None,
    ):  # fmt: skip
        require_sizes(0, capacity=capacity, sinks=sinks)
        require_sizes(**({} if window is None else {"window": window}))
        super().__init__(batch, heads, capacity, head_dim, value_dim, dtype, device)
        self.capacity, self.mask = capacity, dict(window=window, sinks=sinks)

    def append(self, key, value):
        """Add key: [batch, heads, new, head_dim] and value. ValueError past capacity, or for another shape or dtype."""
        self._require_fit(key, value)
        new, end = key.shape[2], self.length + key.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.length} of {self.capacity} tokens; {new} more do not fit.")
        self._write(slice(self.length, end), key, value)
        self.length = end

    def look(self, query):
        """What the newest tokens read of all that is kept: query [batch, heads, time, head_dim], of the last `time`."""
        return attention(query, self.key, self.value, **self.mask)

    def attend(self, query, key, value):
        """Take in new tokens, and what each of them reads. Shapes as in `attention`, key and value with its heads."""
        self.append(key, value)
        return self.look(query)

    def crop(self, length):
        self._require_reached(length)
        self.length = length
        return self

    @property
    def key(self):
        return self._read(self._key, slice(self.length))

    @property
    def value(self):
        return self._read(self._value, slice(self.length))

    @property
    def kept_bytes(self):
        return self.key.nbytes + self.value.nbytes


class WindowCache(_Cache):
    """Keys and values of the last `window` tokens, a ring that each new token overwrites at its oldest place.

    Turned keys may lie in any order for a single query, which sees them all; more queries get them put in order.
    Sizes and errors as of a KeyValueCache.
    """

    def __init__(self, batch, heads, window, head_dim, value_dim=None, *, dtype=torch.float32, device=None):
        require_sizes(window=window)
        super().__init__(batch, heads, window, head_dim, value_dim, dtype, device)
        self.window, self.mask = window, dict(window=window, sinks=0)
        self._most = 0  # tokens ever taken in: the last `window` of them are what the ring holds

    def attend(self, query, key, value):
        """Take in new tokens and attend from each to the window that ends with it. Shapes as in `attention`."""
        self._require_fit(key, value)
        if query.shape[2] == 1:
            self._keep(key, value)
            filled = slice(min(self.length, self.window))
            return attention(query, *self._rows(filled), causal=False)
        before = self._rows(self._latest())
        keys, values = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        self._keep(key, value)
        return attention(query, keys, values, window=self.window)

    def _latest(self):
        """Where the last window - 1 tokens lie, oldest first: what the next query sees beside its own."""
        first = max(0, self.length - self.window + 1)
        return torch.arange(first, self.length, device=self._key.device) % self.window

    def _keep(self, key, value):
        new = min(key.shape[2], self.window)
        self.length += key.shape[2]
        self._most = max(self._most, self.length)
        place = torch.arange(self.length - new, self.length, device=key.device) % self.window
        self._write(place, key[:, :, key.shape[2] - new :], value[:, :, key.shape[2] - new :])

    def crop(self, length):
        """As `State.crop`; a ring that has gone round can take back its newest token and no more."""
        self._require_reached(length)
        if self._most > self.window and length < self._most - 1:
            raise ValueError(
                f"a window of {self.window} keys that has read {self._most} tokens cannot be cropped to {length}: "
                "what it then held is overwritten. Copy it before a draft, and go on with the copy."
            )
        self.length = length
        return self


@dataclass(frozen=True)
class SharedKeyValue(State):
    """The keys and values of a text that is read at once: what a cache would hold, without keeping it.

    key, value, and what subclasses add: [batch, heads, time, ...].
    """

    key: torch.Tensor
    value: torch.Tensor
    grows = True

    @property
    def length(self):
        return self.key.shape[2]

    @property
    def nbytes(self):
        return sum(each.nbytes for each in vars(self).values())

    def look(self, query):
        """What the last tokens of the text read: query [batch, heads, time, head_dim]."""
        return attention(query, self.key, self.value)

    def reorder(self, rows):
        require_rows(rows, len(self.key))
        return dataclasses.replace(self, **{name: each[rows] for name, each in vars(self).items()})

    def crop(self, length):
        self._require_reached(length)
        return dataclasses.replace(self, **{name: each[:, :, :length] for name, each in vars(self).items()})


@dataclass(frozen=True)
class Memory(State):
    """What a recurrence keeps, of one size however long the text. memory: [batch, heads, key_dim, value_dim].

    Gradients pass through it.
    """

    memory: torch.Tensor
    length: int = 0

    @property
    def nbytes(self):
        return self.memory.nbytes

    def reorder(self, rows):
        require_rows(rows, len(self.memory))
        return dataclasses.replace(self, memory=self.memory[rows])
