"""What stands beside one index for all layers: one index per layer (DSA), other choices to measure against, and NSA.

And the miniature in which layers agree as much as one likes: where does sharing break?
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from effattn_core.attention import oracle as attention_oracle
from effattn_core.indexing import choose_rows, hide_future, mask_of, scores_oracle
from effattn_core.indexing.model import LightningIndexer, distillation

CHOICES = ("per layer", "shared oracle", "trained shared", "layer 0's", "random")


def coverage(weights, rows):
    """The share of each layer's attention that the chosen rows hold: [layers], means over batch and queries.

    weights: [layers, batch, time, key_time], each query's sum is 1; rows: [batch, time, count] for all layers, or
    [layers, batch, time, count]; -1 for none.
    """
    rows = rows.expand(len(weights), *rows.shape[-3:])
    caught = weights.gather(-1, rows.clamp(min=0)).masked_fill(rows < 0, 0.0)
    return caught.sum(-1).mean((1, 2))


def choices(weights, scores, top_k, generator):
    """name -> rows, of each of CHOICES, for `coverage`. weights as there; scores: of the trained indexer.

    The oracles choose by the attention that they are asked to cover: no selector can do better.
    """
    seen = scores > -math.inf
    unseen = weights.mean(0).masked_fill(~seen, -math.inf)
    each = torch.stack([choose_rows(layer.masked_fill(~seen, -math.inf), top_k, 0) for layer in weights])
    dice = torch.rand(scores.shape, generator=generator).to(scores.device).masked_fill(~seen, -math.inf)
    found = (each, choose_rows(unseen, top_k, 0), choose_rows(scores, top_k, 0), each[0], choose_rows(dice, top_k, 0))
    return dict(zip(CHOICES, found, strict=True))


class Layers(NamedTuple):
    """A text's hidden vectors [batch, time, width], and what layers attend to in it [layers, batch, time, time]."""

    hidden: torch.Tensor
    weights: torch.Tensor


def agreeing_layers(agreement, *, tokens=512, layers=6, heads=4, width=64, head_dim=16, sharpness=8.0, noise=1.0,
                    seed=0):  # fmt: skip
    """Layers whose queries are agreement · (what all share) + (1 - agreement) · (their own): a Layers, weights by head.

    One key projection serves all heads, and what layers share their heads share too; nothing is masked, weights are
    means over heads. sharpness, noise: of the scores and of a head's own projection: a RECONSTRUCTION, fitted to a
    table whose program we do not have.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator)
    key = hidden @ torch.randn(width, head_dim, generator=generator) / width**0.5
    shared = torch.randn(width, head_dim, generator=generator) / width**0.5  # of all heads and layers
    own = noise * torch.randn(layers, heads, width, head_dim, generator=generator) / width**0.5
    query = hidden @ (agreement * shared + (1 - agreement) * own)  # [layers, heads, tokens, head_dim]
    weights = (sharpness * head_dim**-0.5 * query @ key.mT).softmax(-1).mean(1)
    return Layers(hidden[None], weights[:, None])


def trained_indexer(found, *, index_heads=4, index_dim=16, steps=400, learning_rate=1e-2, seed=0):
    """An indexer, without positions and norms, taught by KL to the mean of the layers' weights; and its last loss.

    Norms would take the length from what it sees, and here scores depend on it.
    """
    torch.manual_seed(seed)
    indexer = LightningIndexer(found.hidden.shape[2], index_heads, index_dim, rotary_base=None, normed=False)
    optimizer = torch.optim.Adam(indexer.parameters(), lr=learning_rate)
    teacher = found.weights.mean(0)
    for _ in range(steps):
        loss = distillation(teacher, unmasked_scores(indexer, found.hidden))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return indexer, loss.item()


def unmasked_scores(indexer, hidden):
    """Scores of every token for every query, nothing hidden: [batch, time, time]."""
    query, weight = indexer.ask(hidden)
    return scores_oracle(query, indexer.keys(hidden), weight)


class LayerIndexers(nn.Module):
    """DSA in a YOCO: each layer of the cross-decoder has an indexer and a teacher of its own.

    Its query comes from what enters the layer, its keys from the self-decoder, because a prompt that leaves early never
    reaches that layer. So the cache holds an index key for each layer and token, and every layer scores the whole text.
    """

    def __init__(self, model, index_heads=4, index_dim=32):
        super().__init__()
        sizes, self._model = model.sizes, (model,)
        self.sizes = sizes
        self.indexers = nn.ModuleList(
            LightningIndexer(sizes.width, index_heads, index_dim, sizes.rotary_base) for _ in range(sizes.cross_layers)
        )

    def scores(self, before):
        """before: the hidden vectors that enter each layer. Returns [layers, batch, time, time], the future hidden."""
        found = []
        for indexer, hidden in zip(self.indexers, before, strict=True):
            query, weight = indexer.ask(hidden)
            found.append(hide_future(scores_oracle(query, indexer.keys(before[0]), weight)))
        return torch.stack(found)

    def loss(self, tokens, targets):
        """The mean over layers of each one's KL to its own teacher."""
        weights, before = observed(self._model[0], tokens)
        return distillation(weights, self.scores(before))


@torch.no_grad()
def observed(model, tokens):
    """What the cross-decoder attends to when it reads everything: (weights as in `coverage`, hidden before layers)."""
    hidden, states = model.read(model.embedding(tokens), None)
    everything = hide_future(hidden.new_zeros(len(tokens), *2 * tokens.shape[1:])) == 0
    return model.watched(hidden, states[-1], everything)[1:]


def block_summaries(tensor, block_size):
    """The mean of each whole block of a text: [batch, heads, blocks, size]; the released form of NSA's compression."""
    whole = tensor.shape[2] // block_size
    return tensor[:, :, : whole * block_size].unflatten(2, (whole, block_size)).mean(3)


def nsa(query, key, value, gates, *, block_size, blocks, window):
    """NSA's three branches: Σ_c gate_c · attention(q, K_c, V_c), over summaries, chosen blocks, and a window.

    query: [batch, heads, time, head_dim]; key, value: [batch, key_heads, time, ...]; gates: [batch, heads, time, 3] in
    (0, 1). As in the released code of fla-org: mean pooling, one key and value for all branches, the heads of a group
    choose together by their weights on the summaries, the block of the query itself is always chosen. A query before
    the end of the first block has no summary: that branch gives 0.
    """
    repeats, time, scale = query.shape[1] // key.shape[1], query.shape[2], query.shape[3] ** -0.5
    place = torch.arange(time, device=query.device)
    summaries = block_summaries(key, block_size)
    complete = (torch.arange(summaries.shape[2], device=query.device) + 1) * block_size <= place[:, None] + 1
    scores = scale * query @ summaries.repeat_interleave(repeats, 1).mT
    weight = scores.masked_fill(~complete, -math.inf).softmax(-1).nan_to_num(0.0)
    compressed = weight @ block_summaries(value, block_size).repeat_interleave(repeats, 1)

    wanted = weight.unflatten(1, (key.shape[1], repeats)).sum(2)  # [batch, key_heads, time, whole blocks]
    count = -(-time // block_size)
    wanted = nn.functional.pad(wanted, (0, count - wanted.shape[3]))
    own = place // block_size
    first = torch.arange(count, device=query.device) * block_size
    wanted = wanted.masked_fill(first > place[:, None], -math.inf)
    wanted = wanted.masked_fill(torch.arange(count, device=query.device) == own[:, None], math.inf)
    chosen = mask_of(choose_rows(wanted.flatten(0, 1), blocks, 0), count).repeat_interleave(block_size, 2)[..., :time]
    chosen = chosen.unflatten(0, wanted.shape[:2]).repeat_interleave(repeats, 1) & (place <= place[:, None])
    scores = (scale * query @ key.repeat_interleave(repeats, 1).mT).masked_fill(~chosen, -math.inf)
    selected = scores.softmax(-1) @ value.repeat_interleave(repeats, 1)

    near = attention_oracle(query, key, value, window=window, scale=scale).output
    return gates[..., :1] * compressed + gates[..., 1:2] * selected + gates[..., 2:] * near
