"""Condensation in a language model that stays as it is: chunks are read, each gets a candidate, the decoder reads those.

No second model: chunks are read by the model itself into ordinary caches, a candidate is one more token that passes
through the same blocks with projections of its own, and the decoder's state begins with the candidates' keys. Keys are
kept before they turn, so that a candidate may stand elsewhere in the decoder's pass than in its own.
"""

import copy
from typing import NamedTuple

import torch
from torch import nn

from effattn_core.attention import attention
from effattn_core.calls import require_count
from effattn_core.model import LanguageModel, sample
from effattn_core.positions import given_speeds, speeds, turn
from effattn_core.states import KeyValueCache, State


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
    def count(self):
        """Candidates per text: one per chunk."""
        return self.keys[0].shape[2]


def split(tokens, chunk, local):
    """A text's memory in chunks of `chunk` tokens, and its local context: at least the last `local` tokens.

    tokens: [batch, time] int64. The tokens that do not fill a last chunk go to the local context, which then has up to
    chunk - 1 more. Raises ValueError for sizes under 1, and for a text without a token before or in its local context.
    """


class Added(nn.Module):
    """What condensation adds to a model: per layer the candidate's own projections, and its embedding.

    embedding: [width], a copy of that of the token `end`. layers: per layer a ModuleDict of query, key, value, output,
    copies of the model's. They learn; the model stays frozen, and is not changed by making this.
    Raises ValueError for a model other than of plain attention, and for an end token that is not in its vocabulary.
    """


def read_chunks(model, chunks, prompt, *, room=0):
    """The frozen model's own reading of every chunk and the prompt after it, all chunks in parallel.

    chunks: [batch, count, chunk] int64; prompt: [batch, time] int64, time 0 allowed, the end of the local context.
    room: tokens that may follow. Returns the states, a KeyValueCache per layer with batch · count rows.
    Raises ValueError where chunk, prompt, candidate and room exceed the model's context.
    """


def refresh(model, added, states, batch=1):
    """One candidate per row of `states` (see `read_chunks`), which they do not take in. Returns Candidates.

    Gradients flow into `added` alone. batch: texts; the rows of a text's chunks lie together.
    """


def condense(model, added, chunks, local, *, prompt):
    """Candidates of all chunks (eq. focus-condense): `read_chunks` after which the last `prompt` local tokens follow.

    chunks: [batch, count, chunk] int64; local: [batch, time] int64; prompt: how many of its last tokens are appended to
    every chunk. Returns Candidates. Raises ValueError as `read_chunks` does.
    """


def predict(model, candidates, local, states=None):
    """The frozen model over [candidates; local]: (logits: [batch, time, vocabulary], states to go on with).

    candidates stand at positions 0 … count - 1, local tokens from count on. candidates None: the window alone.
    Raises ValueError where they exceed the model's context, or are of another batch.
    """


def decode(model, added, chunks, local, count, *, prompt, every=1, temperature=0.0, generator=None):
    """Yield `count` tokens after the local context, one at a time; the likeliest at temperature 0.

    chunks: [1, count of chunks, chunk]; local: [1, time]. Each token is appended to every chunk's prompt; the
    candidates are then made anew, and with them the whole local pass, as released: every=1. every=n makes them anew
    before each n-th token and keeps the local cache in between: our shortcut. every=None never does.
    Raises ValueError where it does not fit the model's context.
    """
