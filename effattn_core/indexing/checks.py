"""The hidden cases of the exercises on one shared index."""

import math

import torch

from effattn_core.exercises import exercise
from effattn_core.indexing import oracle, scores_oracle
from effattn_core.indexing.model import distillation


@exercise("indexing.scores", level="code")
def scores(function):
    generator = torch.Generator().manual_seed(0)
    for heads, index_dim, time, key_time in ((4, 16, 3, 9), (1, 8, 5, 5), (6, 32, 1, 70)):
        shapes = (1, heads, time, index_dim), (1, 1, key_time, index_dim), (1, heads, time)
        query, key, weight = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
        wanted = scores_oracle(query, key, weight)[0]
        got = function(query[0], key[0, 0], weight[0])
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            given = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
            return f"Return one score per query and token, {tuple(wanted.shape)}; got {given}."
        if torch.allclose(got, wanted):
            continue
        product, factor = query[0] @ key[0, 0].mT, (heads * index_dim) ** -0.5
        if torch.allclose(got, wanted / factor):
            return "The factor is missing: one over the square root of heads, and one over that of index_dim."
        if torch.allclose(got, wanted / factor * index_dim**-0.5):
            return "Of the factor the square root of the heads is missing."
        if torch.allclose(got, factor * (weight[0][..., None] * product).sum(0)):
            return "Without the ReLU all heads melt into one product: what disagrees in a head must count nothing."
        if torch.allclose(got, factor * (weight[0][..., None] * product).sum(0).clamp(min=0)):
            return "The ReLU belongs inside the sum, one per head: a weight below zero may lower a score below zero."
        return f"With {heads} heads a score is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("indexing.teacher", level="code")
def teacher(function):
    generator = torch.Generator().manual_seed(1)
    for layers, keys in ((3, 7), (1, 4), (6, 50)):
        attention = (3 * torch.randn(layers, keys, dtype=torch.float64, generator=generator)).softmax(-1)
        index = torch.randn(keys, dtype=torch.float64, generator=generator, requires_grad=True)
        each = torch.stack([distillation(layer, index) for layer in attention]).mean()
        (wanted,) = torch.autograd.grad(each, index)
        got = torch.as_tensor(function(attention, index.detach()))
        if got.shape != wanted.shape:
            return f"A gradient has a number for each of {keys} scores; got the shape {tuple(got.shape)}."
        if torch.allclose(got, wanted, atol=1e-9):
            continue
        if torch.allclose(got, -wanted, atol=1e-9):
            return "The sign is turned: following this gradient down would leave the teacher."
        if torch.allclose(got, layers * wanted, atol=1e-9):
            return "That is the gradient of the sum over layers, not of the mean."
        if torch.allclose(got, index.detach().softmax(-1) - attention[0], atol=1e-9):
            return "Only the first layer teaches here: take the mean of all."
        return f"With {layers} layers and {keys} tokens the gradient is off by {(got - wanted).abs().max():.2g}."
    return None


@exercise("indexing.gather", level="code")
def gather(function):
    generator = torch.Generator().manual_seed(2)
    for layers, heads, time, count, padding in ((3, 4, 20, 6, 0), (2, 1, 9, 9, 0), (4, 2, 30, 5, 3)):
        query = torch.randn(layers, heads, 8, dtype=torch.float64, generator=generator)
        key, value = torch.randn(2, time, 8, dtype=torch.float64, generator=generator)
        rows = torch.randperm(time, generator=generator)[:count]
        rows = torch.cat([rows, rows.new_full((padding,), -1)])
        wanted = oracle(
            query.view(1, -1, 1, 8), key[None, None], value[None, None], rows[None], scale=8**-0.5
        ).output.view(query.shape)  # fmt: skip
        got = function(query, key, value, rows)
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            given = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
            return f"Return an output for each layer and head, {tuple(wanted.shape)}; got {given}."
        if torch.allclose(got, wanted):
            continue
        dense = (8**-0.5 * query @ key.mT).softmax(-1)
        seen = torch.zeros(time, dtype=torch.bool).scatter_(0, rows[rows >= 0], True)
        if torch.allclose(got, dense @ value):
            return "That is dense attention: nothing was left out."
        if torch.allclose(got, (dense * seen) @ value):
            return "Weights that are set to zero after the softmax no longer sum to one: gather before it."
        if padding:
            logits = 8**-0.5 * query @ key[rows].mT  # -1 reads the last token
            if torch.allclose(got, logits.softmax(-1) @ value[rows]):
                return "A row of -1 means none, and indexing by -1 reads the last token: hide it."
            if torch.allclose(got, logits.masked_fill(rows < 0, 0.0).softmax(-1) @ value[rows]):
                return "A score of 0 still has a weight of exp(0): hide by minus infinity."
        if torch.allclose(got, (query @ key.mT).masked_fill(~seen, -math.inf).softmax(-1) @ value):
            return "The scale is missing: scores are divided by the square root of head_dim."
        return f"With {count} rows of {time} the output is off by {(got - wanted).abs().max():.2g}."
    return None
