"""A YOCO that indexes once: one lightning indexer before the cross-decoder, one list of rows for all of its layers.

Training has two stages (UNVERIFIED of CLSA: its section on training was not read): first the indexer alone learns what
all cross-layers together attend to, then everything learns with sparse attention, the indexer by its own loss only.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from effattn_core.indexing import (
    choose_rows,
    gather_rows,
    hide_future,
    mask_of,
    row_attention,
    scores_oracle,
    select_rows,
)
from effattn_core.positions import even_speeds, turn
from effattn_core.states import KeyValueCache, SharedKeyValue, State, require_fit
from effattn_core.yoco import YOCO

DISTILLATION = 0.1  # weight of the indexer's loss in the joint stage; UNVERIFIED of CLSA


class LightningIndexer(nn.Module):
    """Routing queries, one routing key per token, and a weight per head (DSA; for CLSA a RECONSTRUCTION).

    Half of the index dimensions are turned to their positions, as in DSA; none if rotary_base is None. Keys pass a
    LayerNorm; normed False leaves out both norms. Raises ValueError for an index_dim that is not a multiple of four.
    """

    def __init__(self, width, index_heads=4, index_dim=32, rotary_base=10000.0, *, normed=True):
        super().__init__()
        if index_dim % 4:
            raise ValueError(f"half of index_dim is turned in pairs, so it must be a multiple of 4; it is {index_dim}.")
        self.heads, self.index_dim, self.base = index_heads, index_dim, rotary_base
        self.before = nn.RMSNorm(width) if normed else nn.Identity()
        self.query = nn.Linear(width, index_heads * index_dim, bias=False)
        self.key = nn.Linear(width, index_dim, bias=False)
        self.after = nn.LayerNorm(index_dim) if normed else nn.Identity()
        self.weight = nn.Linear(width, index_heads)
        nn.init.ones_(self.weight.bias)  # a weight starts near 1: with ReLUs of either sign nothing would be learned

    def _turned(self, tensor, first):
        if self.base is None:
            return tensor
        half = self.index_dim // 2
        near = turn(tensor[..., :half], first, even_speeds(half, self.base, tensor))
        return torch.cat([near, tensor[..., half:]], -1)

    def keys(self, hidden, first=0):
        """hidden: [batch, time, width], its first token at position `first`. Returns [batch, 1, time, index_dim]."""
        return self._turned(self.after(self.key(self.before(hidden)))[:, None], first)

    def ask(self, hidden, first=0):
        """(query: [batch, index_heads, time, index_dim], weight: [batch, index_heads, time])."""
        normed = self.before(hidden)
        query = self.query(normed).unflatten(-1, (self.heads, self.index_dim)).transpose(1, 2)
        return self._turned(query, first), self.weight(normed).transpose(1, 2)

    def forward(self, hidden):
        """Scores of every token for every query of a text: [batch, time, time], the future hidden."""
        query, weight = self.ask(hidden)
        return hide_future(scores_oracle(query, self.keys(hidden), weight))


class IndexedCache(KeyValueCache):
    """The shared keys and values, and one index key per token: all that a YOCO with an index keeps of the text."""

    def __init__(self, batch, heads, capacity, head_dim, index_dim, *, dtype=torch.float32, device=None):
        super().__init__(batch, heads, capacity, head_dim, dtype=dtype, device=device)
        self._index = torch.empty(batch, 1, capacity, index_dim, dtype=dtype, device=device)

    def append_index(self, index_key):
        """Index keys of the tokens that were appended last: [batch, 1, new, index_dim]. ValueError for other shapes."""
        require_fit("index_key", index_key, self._index)
        self._index[:, :, self.length - index_key.shape[2] : self.length] = index_key.detach()

    def reorder(self, rows):
        super().reorder(rows)
        self._index = self._index[rows]
        return self

    @property
    def index(self):
        return self._read(self._index, slice(self.length))

    @property
    def nbytes(self):
        return super().nbytes + self._index.nbytes

    @property
    def kept_bytes(self):
        return super().kept_bytes + self.index.nbytes


@dataclass(frozen=True)
class IndexedKeyValue(SharedKeyValue):
    """Keys, values and index keys of a text that is read at once."""

    index: torch.Tensor


class NearRows(State):
    """One token's rows, gathered once: every layer that looks reads the same copies."""

    def __init__(self, shared, rows):
        self.length, self.rows = shared.length, rows
        self.key, self.value = gather_rows(shared.key, shared.value, rows)

    def look(self, query):
        return row_attention(query, self.key, self.value, self.rows, gathered_already=True).output


class Watched(State):
    """Dense attention over what `seen` allows, that remembers each layer's mean weights over heads.

    seen: bool [batch, time, key_time]. weights: a list of [batch, time, key_time], one per layer that looked.
    """

    def __init__(self, shared, seen):
        self.length, self.seen, self.weights = shared.length, seen, []
        self._shared = shared

    def look(self, query):
        key, value = self._shared.key, self._shared.value
        group, batch, time = query.shape[1] // key.shape[1], query.shape[0], query.shape[2]
        tile = query.unflatten(1, (key.shape[1], group)).flatten(2, 3)  # [batch, key_heads, group · time, head_dim]
        scores = (tile * query.shape[-1] ** -0.5 @ key.mT).unflatten(2, (group, time))
        weight = scores.masked_fill(~self.seen[:, None, None], float("-inf")).softmax(-1)
        self.weights.append(weight.detach().mean((1, 2)))
        mixed = weight.flatten(2, 3) @ value
        return mixed.view(batch, query.shape[1], time, -1)


class IndexedYOCO(YOCO):
    """A YOCO whose cross-decoder reads `top_k` tokens of the shared cache, chosen once for all of its layers.

    top_k: None reads everything. The indexer sees what the self-decoder made, detached: it learns by its own loss.
    """

    def __init__(self, sizes, *, top_k=None, index_heads=4, index_dim=32):
        self.index_settings = (sizes.width, index_heads, index_dim, sizes.rotary_base)
        super().__init__(sizes)
        self.top_k = top_k

    def make_layers(self, mixer):
        super().make_layers(mixer)
        self.indexer = LightningIndexer(*self.index_settings)

    def new_states(self, batch=1):
        sizes, weight = self.sizes, self.head.weight
        shape = (batch, sizes.key_value_heads, sizes.context, sizes.head_dim, self.indexer.index_dim)
        return [*super().new_states(batch)[:-1], IndexedCache(*shape, dtype=weight.dtype, device=weight.device)]

    def read(self, hidden, states):
        hidden, states = super().read(hidden, states)
        *states, shared = states
        index = self.indexer.keys(hidden.detach(), shared.length - hidden.shape[1])
        if isinstance(shared, IndexedCache):
            shared.append_index(index)
        else:
            shared = IndexedKeyValue(shared.key, shared.value, index)
        return hidden, [*states, shared]

    def scores(self, hidden, shared):
        """Scores of every token for the last tokens of the text, the future hidden: [batch, time, key_time]."""
        query, weight = self.indexer.ask(hidden.detach(), shared.length - hidden.shape[1])
        return hide_future(scores_oracle(query, shared.index, weight))

    def answer(self, hidden, states):
        """The cross-decoder: one token reads rows gathered once, several read by a mask."""
        shared = states[-1]
        if self.top_k is None:
            return super().answer(hidden, states)
        if hidden.shape[1] > 1 or torch.is_grad_enabled():
            return self.watched(hidden, shared, self.mask(self.scores(hidden, shared)))[0]
        query, weight = self.indexer.ask(hidden, shared.length - 1)
        rows, _ = select_rows(query, shared.index, weight, top_k=self.top_k)
        return super().answer(hidden, [NearRows(shared, rows)])

    def mask(self, scores):
        """What each query reads by these scores: bool [batch, time, key_time]; all that it sees if top_k is None."""
        if self.top_k is None:
            return scores > float("-inf")
        return mask_of(choose_rows(scores.detach(), self.top_k), scores.shape[2])

    def watched(self, hidden, shared, seen):
        """(the cross-decoder's output, weights [layers, batch, time, key_time], hidden before each of its layers)."""
        reader, before = Watched(shared, seen), []
        for block in self.cross_blocks:
            before.append(hidden)
            hidden, _ = block(hidden, reader)
        return hidden, torch.stack(reader.weights), before


def distillation(teacher, scores, seen=None):
    """KL(teacher || softmax(scores)), the mean over queries, in nats     (eq. clsa-distillation)

    teacher: [..., time, key_time], rows that sum to 1 over what a query sees; scores of that shape, -inf for the
    unseen. seen: bool, to compare on those tokens alone, both sides renormalised there (DSA's sparse stage).
    """
    if seen is not None:
        teacher = teacher.masked_fill(~seen, 0.0)
        teacher = teacher / teacher.sum(-1, keepdim=True).clamp(min=1e-20)
        scores = scores.masked_fill(~seen, float("-inf"))
    log_index = scores.log_softmax(-1).masked_fill(teacher == 0, 0.0)
    return (torch.special.xlogy(teacher, teacher) - teacher * log_index).sum(-1).mean()


class IndexerAlone(nn.Module):
    """The first stage: the model is frozen and dense, and its indexer learns the mean of all layers' attention."""

    def __init__(self, model):
        super().__init__()
        self.indexer, self.sizes = model.indexer, model.sizes
        self._model = (model,)  # in a tuple, so that its parameters are not this stage's

    def loss(self, tokens, targets):
        (model,) = self._model
        with torch.no_grad():
            hidden, states = model.read(model.embedding(tokens), None)
            shared = states[-1]
            everything = hide_future(hidden.new_zeros(len(tokens), *2 * tokens.shape[1:])) == 0
            _, weights, _ = model.watched(hidden, shared, everything)
        return distillation(weights.mean(0), self.indexer(hidden))


class Jointly(nn.Module):
    """The second stage: sparse attention, the language model's loss, and a tenth of the indexer's on chosen rows."""

    def __init__(self, model):
        super().__init__()
        self.model, self.sizes = model, model.sizes

    def loss(self, tokens, targets):
        model = self.model
        hidden, states = model.read(model.embedding(tokens), None)
        scores = model.scores(hidden, states[-1])
        seen = model.mask(scores)
        hidden, weights, _ = model.watched(hidden, states[-1], seen)
        logits = model.head(model.norm(hidden))
        own = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return own + DISTILLATION * distillation(weights.mean(0), scores, seen)
