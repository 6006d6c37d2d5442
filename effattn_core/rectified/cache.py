"""Caches that read sparsely and can be rewound, and the decoder that rectifies them every few tokens."""

import torch

from effattn_core.attention import attention
from effattn_core.model import require_room, sample
from effattn_core.rectified import (
    Choice,
    block_attention,
    block_bounds,
    block_means,
    bound_scores,
    choose_blocks,
    dense_pass,
    mean_scores,
)
from effattn_core.states import KeyValueCache


class RewindableCache(KeyValueCache):
    """A key-value cache that can be rewound, and whose subclasses read sparsely.

    Several tokens at once, as a prompt is, and tokens that come again after `rewind`, attend densely; a single new one
    by `look`, which a sparse cache overrides. `look` of this class reads all: it is the dense baseline.
    """

    rewound = False

    def rewind(self, count):
        """Take back the newest `count` tokens, which must come again next, all at once: that pass is dense."""
        if not 1 <= count <= self.length:
            raise ValueError(f"a cache of {self.length} tokens cannot be rewound by {count}.")
        self.length, self.rewound = self.length - count, True

    def attend(self, query, key, value):
        """Add the tokens, then attend: query [batch, heads, new, head_dim], key and value with the cache's heads."""
        self.append(key, value)
        rewound, self.rewound = self.rewound, False
        if rewound and self.mask["window"] is None:
            return dense_pass(query, self.key, self.value)
        if rewound or query.shape[2] > 1:
            return attention(query, self.key, self.value, **self.mask)
        return self.look(query)

    def step_bytes(self):
        """Bytes that the last single token read, by what: {"descriptors": 0, "blocks": …}, exact."""
        return {"descriptors": 0, "blocks": self.key.nbytes + self.value.nbytes}


class RectifiedCache(RewindableCache):
    """A cache whose single tokens read a few blocks, chosen by what is known of each block (Sun et al. 2025).

    choice: a `Choice`. `known`: what the gate reads of each block, [batch, heads, blocks, head_dim] each: (lowest,
    highest), or (mean,). `blocks`: the list that the last token read, as `choose_blocks` gives it.
    """

    def __init__(self, batch, heads, capacity, head_dim, *rest, choice=None, dtype=torch.float32, device=None):
        super().__init__(batch, heads, capacity, head_dim, *rest, dtype=dtype, device=device)
        self.choice, self.blocks = choice or Choice(), None
        shape = (batch, heads, -(-capacity // self.choice.block_size), head_dim)
        kept = 2 if self.choice.gate == "bound" else 1
        self._known = tuple(torch.empty(shape, dtype=dtype, device=device) for _ in range(kept))

    def reorder(self, rows):
        super().reorder(rows)
        self._known, self.blocks = tuple(each[rows] for each in self._known), None
        return self

    def crop(self, length):
        """As `State.crop`: what is known of the block that the text now ends in is made anew."""
        super().crop(length)
        if length:
            self.rebuild(length - 1)
        self.blocks = None
        return self

    @property
    def known(self):
        blocks = -(-self.length // self.choice.block_size)
        return tuple(each[:, :, :blocks] for each in self._known)

    @property
    def nbytes(self):
        return super().nbytes + sum(each.nbytes for each in self._known)

    @property
    def kept_bytes(self):
        return super().kept_bytes + sum(each.nbytes for each in self.known)

    def append(self, key, value):
        first = self.length
        super().append(key, value)
        # A running bound can only widen: what was overwritten must be forgotten, so those blocks are made anew.
        if self.length - first == 1 and not self.rewound and self.choice.gate == "bound":
            self._widen(key[:, :, 0].detach(), first)
        else:
            self.rebuild(first)

    def _widen(self, key, position):
        """The running update: the token at `position` joins the bounds of its block."""
        block, place = divmod(position, self.choice.block_size)
        for bound, widest in zip(self._known, (torch.minimum, torch.maximum), strict=True):
            bound[:, :, block] = key if place == 0 else widest(bound[:, :, block], key)

    def rebuild(self, first=0):
        """Make anew, from the keys, what is known of every block that holds a token from `first` on."""
        size = self.choice.block_size
        start = first // size
        keys = self._key[:, :, start * size : self.length]
        made = block_bounds(keys, size) if self.choice.gate == "bound" else (block_means(keys, size),)
        for kept, new in zip(self._known, made, strict=True):
            kept[:, :, start : start + new.shape[2]] = new

    def scores(self, query):
        """How the gate values each block for one token: [batch, lists, blocks]."""
        scale = query.shape[-1] ** -0.5
        if self.choice.gate == "bound":
            return bound_scores(query, *self.known, scale=scale, shared=self.choice.shared)
        return mean_scores(query, *self.known, scale=scale, shared=self.choice.shared)

    def look(self, query):
        self.blocks = choose_blocks(self.scores(query), self.choice)
        return block_attention(query, self.key, self.value, self.blocks, block_size=self.choice.block_size).output

    def rows_read(self):
        """How many rows of each key head the last token read, the heads of a group counted together: [batch, heads]."""
        size, known = self.choice.block_size, self.known[0]
        chosen = torch.zeros(known.shape[:3], dtype=torch.bool, device=known.device)
        lists = self.blocks.unflatten(1, (known.shape[1], -1)).flatten(2)
        chosen.scatter_(2, lists, True)
        held = torch.full((known.shape[2],), size, device=known.device)
        held[-1] = (self.length - 1) % size + 1
        return (chosen * held).sum(-1)

    def step_bytes(self):
        """Bytes that the last single token read, by what; a row that several heads of a group read counts once."""
        row = self._key.element_size() * (self._key.shape[3] + self._value.shape[3])
        return {
            "descriptors": sum(each.nbytes for each in self.known),
            "blocks": int(self.rows_read().sum()) * row,
        }


def states_of(model, batch, make, **settings):
    """A cache for each block of `model` with attention: `make` is called as the class is.

    A layer whose own configuration has a window sees no more than that as it is: it keeps a plain RewindableCache.
    """
    states = []
    for sizes in (block.mixer.sizes for block in model.blocks):
        shape = (batch, sizes.key_value_heads, sizes.context, sizes.head_dim)
        like = dict(dtype=model.head.weight.dtype, device=model.head.weight.device)
        if sizes.window is None:
            states.append(make(*shape, **like, **settings))
        else:
            states.append(RewindableCache(*shape, window=sizes.window, sinks=sizes.sinks, **like))
    return states


class SparseDecoder:
    """Decode with `states` of RewindableCaches, and rectify them every `period` tokens; 0 never does.

    `read` takes a prompt densely; `step` one token sparsely. Both return logits: [batch, new, vocabulary].
    """

    def __init__(self, model, states, *, period=0):
        if period < 0:
            raise ValueError(f"period must be 0 (never) or more tokens; it is {period}.")
        self.model, self.states, self.period, self.unrectified = model, list(states), period, []

    @torch.no_grad()
    def read(self, tokens):
        """A prompt: [batch, time] int64."""
        logits, self.states = self.model(tokens, self.states)
        return logits

    @torch.no_grad()
    def step(self, token):
        """One token: [batch, 1]. Every `period` of them the cache is rectified once the step is done."""
        logits, self.states = self.model(token, self.states)
        self.unrectified.append(token)
        if len(self.unrectified) == self.period:
            self.rectify()
        return logits

    @torch.no_grad()
    def rectify(self):
        """Encode the tokens since the last time again, densely, over what the cache holds of them; logits are dropped.

        After it the cache is, number for number, what dense decoding of the same tokens would hold.
        """
        if self.unrectified:
            tokens = torch.cat(self.unrectified, 1)
            for state in self.states:
                state.rewind(tokens.shape[1])
            _, self.states = self.model(tokens, self.states)
            self.unrectified = []


@torch.no_grad()
def follow(model, tokens, states, *, prompt, period=0, each=None):
    """Logits of every token after a prompt of `prompt`, the text being given: [batch, steps, vocabulary].

    tokens: [batch, time]; its first `prompt` are read densely. each: called with (position, decoder) after a step.
    """
    decoder = SparseDecoder(model, states, period=period)
    decoder.read(tokens[:, :prompt])
    logits = []
    for position in range(prompt, tokens.shape[1]):
        logits.append(decoder.step(tokens[:, position : position + 1]))
        if each is not None:
            each(position, decoder)
    return torch.cat(logits, 1)


@torch.no_grad()
def generate(model, prompt, count, states, *, period=0, temperature=0.0, generator=None):
    """Yield `count` tokens after prompt: [time] int64, as `effattn_core.model.generate`, from sparse states.

    Raises ValueError if prompt and count do not fit the model's context.
    """
    require_room(model, prompt, count)
    decoder = SparseDecoder(model, states, period=period)
    logits, token = decoder.read(prompt[None]), None
    for _ in range(count):
        if token is not None:
            logits = decoder.step(token)
        token = sample(logits[:, -1], temperature, generator)
        yield token.item()


def kl_divergence(dense, sparse):
    """KL(dense ‖ sparse) in nats of the next token's distribution, from logits: [..., vocabulary] gives [...]."""
    dense, sparse = dense.double().log_softmax(-1), sparse.double().log_softmax(-1)
    return (dense.exp() * (dense - sparse)).sum(-1)


def relative_error(kept, exact):
    """How far each token's vectors are from the exact ones, over the exact length: [batch, time], all heads together.

    kept, exact: [batch, heads, time, head_dim], two caches' keys or values of the same tokens.
    """
    return (kept - exact).norm(dim=(1, 3)) / exact.norm(dim=(1, 3))
