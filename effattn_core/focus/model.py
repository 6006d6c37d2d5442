"""Condensation in a model that stays as it is: chunks are read, each gets a candidate, the decoder reads those.

No second model: chunks are read by the model itself into ordinary caches, a candidate is one more token that passes
through the same blocks with projections of its own, and the decoder's state begins with the candidates' keys. Keys are
kept before they turn, so that a candidate may stand elsewhere in the decoder's pass than in its own.
"""

import copy
from typing import NamedTuple

import torch
from torch import nn

from effattn_core.attention import attention
from effattn_core.calls import require_count, require_rank
from effattn_core.focus.forms import cut
from effattn_core.model import sample
from effattn_core.states import KeyValueCache, State, require_rows, sees_all

PARTS = ("query", "key", "value", "output")


class Split(NamedTuple):
    """A text, cut. chunks: [batch, count, chunk] int64; local: [batch, time] int64, all that comes after them."""

    chunks: torch.Tensor
    local: torch.Tensor


class Candidates(NamedTuple):
    """What the decoder reads of the chunks: per layer a key, not turned, and a value.

    keys, values: tuples, an entry per layer: [batch, key_heads, count, head_dim].
    """

    keys: tuple
    values: tuple

    @property
    def chunks(self):
        """Candidates per text: one per chunk."""
        return self.keys[0].shape[2]


def split(tokens, chunk, local):
    """A text's memory in chunks of `chunk` tokens, and its local context: at least the last `local` tokens.

    tokens: [batch, time] int64. Tokens that fill no chunk are local too, see `effattn_core.focus.forms.cut`. Raises
    ValueError for sizes under 1, and for a text with no whole chunk before its local context.
    """
    require_rank("batch, time", tokens=tokens)
    count, _ = cut(tokens.shape[1], chunk, local)
    if not count:
        raise ValueError(
            f"a text needs one chunk of {chunk} tokens before {local} local ones; it has {tokens.shape[1]} tokens."
        )
    return Split(tokens[:, : count * chunk].unflatten(1, (count, chunk)), tokens[:, count * chunk :])


class Added(nn.Module):
    """What condensation adds to a model: per layer the candidate's own projections, and its embedding.

    embedding: [width], a copy of that of the token `end`. layers: per layer a ModuleDict of query, key, value, output,
    copies of the model's. They learn; the model stays frozen, and is not changed by making this.
    Raises ValueError for a model other than of plain attention, and for an end token that is not in its vocabulary.
    """

    def __init__(self, model, end):
        super().__init__()
        _require_plain(model)
        require_count("end", end, 0)
        if end >= model.sizes.vocabulary:
            raise ValueError(f"end must be one of the model's {model.sizes.vocabulary:,} tokens; it is {end}.")
        self.embedding = nn.Parameter(model.embedding(torch.tensor(end, device=model.head.weight.device)).detach())
        self.layers = nn.ModuleList(
            nn.ModuleDict({part: copy.deepcopy(getattr(block.mixer, part)) for part in PARTS}) for block in model.blocks
        )
        self.requires_grad_(True)


def _require_plain(model):
    """Raise ValueError unless every layer attends to all tokens before it: others keep no keys to condense."""
    sizes = model.sizes
    if not sees_all(sizes):
        raise ValueError(
            "candidates need a model whose layers all attend to the whole text; this one has "
            f"mixer {sizes.mixer!r}, window {sizes.window}, {sizes.cross_layers} cross layers, {sizes.loops} loops."
        )


def _require_room(model, what, time):
    """Raise ValueError for a pass of `time` tokens, more than the model was trained on."""
    if time > model.sizes.context:
        raise ValueError(f"{what} take {time} positions; the model was trained on {model.sizes.context}.")


class ChunkCache(KeyValueCache):
    """A layer's cache of the chunks of `texts` texts, a row per chunk; the rows of a text lie together."""

    reorder = State.reorder  # refused: rows alone do not say which texts they make

    def __init__(self, texts, *sizes, **place):
        super().__init__(*sizes, **place)
        self.texts = texts


def _require_heads(model, what, tensors, remedy):
    """Raise ValueError unless `tensors`, [batch, key_heads, length, head_dim] per layer, are of this model's layers."""
    wanted = len(model.blocks), model.sizes.key_value_heads, model.sizes.head_dim
    found = {(len(tensors), each.shape[1], each.shape[3]) for each in tensors}
    if found != {wanted}:
        given = " and ".join("{} layers with {} key heads of {}".format(*each) for each in sorted(found)) or "no layer"
        raise ValueError(f"{what} are of {given}; the model has {wanted[0]} with {wanted[1]} of {wanted[2]}: {remedy}.")


def _require_chunks(model, states):
    """Raise ValueError unless `states` are of chunks, read by this model."""
    if not all(isinstance(state, ChunkCache) for state in states):
        kinds = ", ".join(sorted({type(state).__name__ for state in states}))
        raise ValueError(f"states must be those that read_chunks or prompted made; got {kinds}.")
    _require_heads(model, "states", [state.key for state in states], "read with this model")


def _require_added(model, added):
    """Raise ValueError unless `added` was made of a model with these sizes."""
    given, wanted = (
        [[tuple(part.weight.shape) for part in layer] for layer in layers]
        for layers in (
            [[each[part] for part in PARTS] for each in added.layers],
            [[getattr(block.mixer, part) for part in PARTS] for block in model.blocks],
        )
    )
    if given != wanted:
        raise ValueError(
            f"added fits a model of {len(given)} layers with projections {given[0]}, not one of {len(wanted)} with "
            f"{wanted[0]}: make an Added of this model."
        )


@torch.no_grad()
def read_chunks(model, chunks, prompt, *, room=0):
    """The frozen model's own reading of every chunk and the prompt after it, all chunks in parallel.

    chunks: [batch, count, chunk] int64; prompt: [batch, time] int64, time 0 allowed, the end of the local context.
    room: tokens that may follow. Returns the states, a ChunkCache per layer with batch · count rows, to which
    `model.read` adds tokens that come later. Raises ValueError for other shapes, and where chunk, prompt, room and the
    candidate exceed the model's context.
    """
    _require_plain(model)
    if chunks.ndim != 3 or 0 in chunks.shape or prompt.ndim != 2 or len(prompt) != len(chunks):
        raise ValueError(
            "chunks must be [batch, count, chunk] of at least one token, and prompt [batch, time]; "
            f"got {tuple(chunks.shape)} and {tuple(prompt.shape)}."
        )
    batch, count, chunk = chunks.shape
    _require_room(model, "a chunk, its prompt and the candidate", chunk + prompt.shape[1] + room + 1)
    sizes, weight = model.sizes, model.head.weight
    shape = (batch * count, sizes.key_value_heads, chunk + prompt.shape[1] + room, sizes.head_dim)
    states = [ChunkCache(batch, *shape, dtype=weight.dtype, device=weight.device) for _ in model.blocks]
    text = torch.cat([chunks, prompt[:, None].expand(-1, count, -1)], 2).flatten(0, 1)
    return model.read(model.embedding(text), states)[1]


@torch.no_grad()
def prompted(model, states, prompt):
    """One memory under several local contexts: what `read_chunks` made of it, with another prompt after each copy.

    states: of one text, read with an empty prompt, which stay as they are; prompt: [batch, time] int64, a row per local
    context. Returns states of batch · count rows, as `refresh` takes them. Raises ValueError as `read_chunks` does, and
    for states of several texts or another model.
    """
    require_rank("batch, time", prompt=prompt)
    _require_chunks(model, states)
    if states[0].texts != 1:
        raise ValueError(f"prompted takes the states of one text; these are of {states[0].texts}: read each by itself.")
    (batch, time), count, length = prompt.shape, len(states[0].key), states[0].length
    _require_room(model, "a chunk, its prompt and the candidate", length + time + 1)
    copies = []
    for state in states:
        _, heads, _, head_dim = state.key.shape
        place = dict(dtype=state.key.dtype, device=state.key.device)
        copies.append(ChunkCache(batch, batch * count, heads, length + time, head_dim, **place))
        copies[-1].append(state.key.repeat(batch, 1, 1, 1), state.value.repeat(batch, 1, 1, 1))
    return model.read(model.embedding(prompt.repeat_interleave(count, 0)), copies)[1] if time else copies


def refresh(model, added, states, batch=None):
    """One candidate per row of `states` (see `read_chunks`), which they do not take in (eq. focus-condense).

    Gradients flow into `added` alone. batch: texts, None for as many as the states are of. Returns Candidates.
    Raises ValueError for another batch, and for states or projections of another model.
    """
    _require_chunks(model, states)
    _require_added(model, added)
    rows, texts = states[0].key.shape[0], states[0].texts
    if batch not in (None, texts):
        raise ValueError(f"the states are of {texts} texts of {rows // texts} chunks; batch is {batch!r}.")
    hidden, keys, values = added.embedding.expand(rows, 1, -1), [], []
    for block, own, state in zip(model.blocks, added.layers, states, strict=True):
        hidden, key, value = _candidate(block, own, hidden, state)
        for kept, each in ((keys, key), (values, value)):
            kept.append(each[:, :, 0].unflatten(0, (texts, rows // texts)).transpose(1, 2))
    return Candidates(tuple(keys), tuple(values))


def _candidate(block, own, hidden, state):
    """A block's pass of the candidate alone: (its new hidden state, its key before it turns, its value).

    hidden: [rows, 1, width]; own: its projections; state: what it reads of its chunk, in which it is not kept.
    """
    normed, mixer = block.before_mixer(hidden), block.mixer
    query, key, value = (
        own[part](normed).unflatten(-1, (-1, mixer.sizes.head_dim)).transpose(1, 2) for part in PARTS[:3]
    )
    query, turned = mixer.turned(query, key, state.length)
    mixed = attention(query, torch.cat([state.key, turned], 2), torch.cat([state.value, value], 2))
    hidden = hidden + own["output"](mixed.transpose(1, 2).flatten(2))
    return hidden + block.feed_forward(block.before_feed_forward(hidden)), key, value


def condense(model, added, chunks, local, *, prompt):
    """Candidates of all chunks in parallel: `refresh` of what `read_chunks` has read.

    chunks: [batch, count, chunk] int64; local: [batch, time] int64; prompt: how many of its last tokens are appended to
    every chunk, all of them if it has fewer. Returns Candidates. Raises ValueError as `read_chunks` does.
    """
    require_count("prompt", prompt, 0)
    require_rank("batch, time", local=local)
    states = read_chunks(model, chunks, local[:, max(0, local.shape[1] - prompt) :])
    return refresh(model, added, states)


class Ahead(State):
    """A layer's state in the decoder's pass: the candidates, then the tokens as they come. Gradients pass through it.

    key, value: [batch, key_heads, length, head_dim], keys turned.
    """

    grows = True

    def __init__(self, key, value):
        self.key, self.value = key, value

    @property
    def length(self):
        return self.key.shape[2]

    @property
    def nbytes(self):
        return self.key.nbytes + self.value.nbytes

    def attend(self, query, key, value):
        """Take in new tokens, and what each of them reads: all candidates, and the tokens up to itself."""
        self.key, self.value = torch.cat([self.key, key], 2), torch.cat([self.value, value], 2)
        return attention(query, self.key, self.value)

    def reorder(self, rows):
        require_rows(rows, len(self.key))
        return Ahead(self.key[rows], self.value[rows])

    def crop(self, length):
        self._require_reached(length)
        return Ahead(self.key[:, :, :length], self.value[:, :, :length])


def ahead(model, candidates, batch=1):
    """The decoder's states before it reads: per layer the candidates' keys, turned to 0 … count - 1, and values.

    candidates None: nothing, for `batch` texts, which is the window alone. Returns a list of Ahead.
    """
    _require_plain(model)
    if candidates is None:
        sizes, like = model.sizes, model.head.weight
        blank = like.new_empty(batch, sizes.key_value_heads, 0, sizes.head_dim)
        return [Ahead(blank, blank) for _ in model.blocks]
    for each in candidates:
        _require_heads(model, "candidates", each, "condense with this model")
    kept = zip(model.blocks, *candidates, strict=True)
    return [Ahead(_turned(block.mixer, key), value) for block, key, value in kept]


def _turned(mixer, key):
    """Keys as the layer itself turns them from position 0 on, its norms and speeds included."""
    blank = key.new_zeros(len(key), mixer.sizes.heads, *key.shape[2:])  # a layer turns both at once
    return mixer.turned(blank, key, 0)[1]


def predict(model, candidates, local, states=None, *, last=None):
    """The frozen model over [candidates; local]: (logits: [batch, time, vocabulary], states to go on with).

    candidates stand at positions 0 … count - 1, local tokens from count on. candidates None: the window alone.
    states: those of an earlier call, whose candidates are then the ones that count. last: logits of so many tokens at
    the end alone, None for all.
    Raises ValueError where they exceed the model's context, or are of another batch, and for a `last` under 1 or above
    the local tokens.
    """
    require_rank("batch, time", local=local)
    if last is not None:
        require_count("last", last)
        if last > local.shape[1]:
            raise ValueError(f"last is {last}; there are {local.shape[1]} local tokens: ask for no more of them.")
    states = ahead(model, candidates, len(local)) if states is None else states
    if len(states) != len(model.blocks):
        raise ValueError(f"there is a state of each of {len(model.blocks)} layers; got {len(states)}.")
    if len(states[0].key) != len(local):
        raise ValueError(f"candidates of {len(states[0].key)} texts do not fit a batch of {len(local)}.")
    _require_room(model, "candidates and local tokens", states[0].length + local.shape[1])
    hidden, states = model.read(model.embedding(local), states)
    return model.head(model.norm(hidden if last is None else hidden[:, hidden.shape[1] - last :])), states


@torch.no_grad()
def decode(model, added, chunks, local, count, *, prompt, every=1, temperature=0.0, generator=None):
    """Yield `count` tokens after the local context, one at a time; the likeliest at temperature 0.

    chunks: [1, count of chunks, chunk]; local: [1, time]. Each token is appended to every chunk's prompt; the
    candidates are then made anew, and with them the whole local pass, as released: every=1. every=n makes them anew
    before each n-th token and keeps the local cache in between: our shortcut. every=None never does.
    Raises ValueError for another batch, no local token, and where it does not fit the model's context.
    """
    require_count("count", count, 0)
    require_count("prompt", prompt, 0)
    if every is not None:
        require_count("every", every)
    if chunks.ndim != 3 or local.ndim != 2 or not len(chunks) == len(local) == 1 or not local.shape[1]:
        raise ValueError(
            "decode takes one text, chunks [1, count, chunk], and local [1, time] with at least one token; "
            f"got {tuple(chunks.shape)} and {tuple(local.shape)}."
        )
    _require_room(model, "candidates and local tokens", chunks.shape[1] + local.shape[1] + max(0, count - 1))
    memory = read_chunks(model, chunks, local[:, max(0, local.shape[1] - prompt) :], room=max(0, count - 1))
    unread = local[:, :0]
    for step in range(count):
        if step == 0 or (every is not None and step % every == 0):
            if unread.shape[1]:
                _, memory = model.read(model.embedding(unread.expand(chunks.shape[1], -1)), memory)
            candidates, unread = refresh(model, added, memory), local[:, :0]
            logits, states = predict(model, candidates, local)
        else:
            logits, states = predict(model, None, local[:, -1:], states)
        token = sample(logits[:, -1], temperature, generator)
        local, unread = torch.cat([local, token], 1), torch.cat([unread, token], 1)
        yield token.item()
