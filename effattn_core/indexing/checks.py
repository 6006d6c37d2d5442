"""The hidden cases of the exercises on one shared index."""

import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.indexing import choose_rows, costs, oracle, scores_oracle
from effattn_core.indexing.model import distillation
from effattn_core.judging import Case, kernel_exercise
from kernels import runtime


@exercise("indexing.meeting", level="pencil")
def meeting(answer):
    """Tokens at which one index reads as much as the chosen rows of all layers."""
    sizes = costs.CROSS_DECODER
    rows, key = costs.step(1 << 20, **sizes).rows, costs.index_bytes(1)
    mistakes = [
        (rows / key / sizes["layers"], "All sixteen layers read the rows, one index serves them: multiply by 16."),
        (rows / key / 2, "A row is a key and a value: twice 4 · 128 numbers."),
        (rows / (key - costs.SCALE_BYTES), "The scale of a routing key is read too: four bytes more per token."),
        (rows / (2 * key - costs.SCALE_BYTES), "The routing key's numbers have one byte each, not two."),
    ]
    return compare_number(answer, rows / key, mistakes, within=0.005)


@exercise("indexing.columns", level="pencil")
def columns(answer):
    """Columns of Batcher's network for 2,048 entries."""
    power = costs.TOP_K.bit_length() - 1
    mistakes = [
        (power, "That merges two sorted halves; before it, each of them has to be sorted."),
        (power**2, "Not every doubling takes eleven columns: runs of two take one, runs of four two."),
        (power * (power - 1) // 2, "That sorts 1,024: the last merge is missing."),
        (costs.TOP_K // 2 * power * (power + 1) // 2, "Those are comparisons; in a column all of them happen at once."),
    ]
    return compare_number(answer, power * (power + 1) // 2, mistakes, within=0.005)


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


@exercise("indexing.lost", level="code")
def lost(function):
    """Attention whose mean list covers 90 % on average and less than 5 % of one layer's."""
    attention = function()
    if not isinstance(attention, torch.Tensor) or attention.ndim != 2 or attention.shape[1] != 16:
        given = tuple(attention.shape) if isinstance(attention, torch.Tensor) else type(attention).__name__
        return f"Return attention of some layers to 16 tokens, [layers, 16]; got {given}."
    attention = attention.double()
    if (attention < 0).any() or not torch.allclose(attention.sum(1), attention.new_ones(len(attention))):
        return "A row is no law: attention is never negative, and each layer's sums to one."
    rows = choose_rows(attention.mean(0)[None, None], 4, 0)[0, 0]
    covered = attention[:, rows].sum(1)
    mean, worst = covered.mean().item(), covered.min().item()
    if worst >= 0.05:
        return f"The layer served worst still finds {worst:.0%}: one layer must look where the others never do."
    if mean < 0.9:
        return f"The list covers {mean:.0%} on average: too few layers agree to outvote the one."
    return None


@kernel_exercise("indexing.halve")
def halve():
    """The best half of a falling and a rising list, falling, without a sort."""

    def case(length, seed):
        generator = torch.Generator().manual_seed(seed)
        numbers = (torch.randint(-40, 40, (2, length), generator=generator).float() - 20).to(runtime.device())
        best, fresh = numbers[0].sort(descending=True).values, numbers[1].sort().values
        larger = torch.maximum(best, fresh)  # of each column: the best half, in bitonic order
        distances = [length >> step for step in range(1, length.bit_length())]
        wanted, disorder = _swapped(larger, distances), "the right numbers are kept, out of order: distances go from "
        mistakes = [
            (
                larger,
                "these are the right numbers, not yet in order: they fall and rise. Now compare half a list apart.",
            ),
            (wanted.flip(0), "the right numbers rise: whoever has the lower place keeps the larger."),
            (best, "the list came back as it was: the larger of each column stays."),
        ]
        for wrong in (distances[::-1], distances[1:], distances[:-1], distances[:1]):
            mistakes.append((_swapped(larger, wrong), disorder + "half the list down to 1."))
        hint, stray = "is it the best half? Take the larger of each column first.", "keep lanes inside the list."
        says = dict(hint=hint, stray=stray, within=0.0)
        return Case(f"two lists of length {length}", (best, fresh), wanted, mistakes=mistakes, **says)

    return [case(*sizes) for sizes in ((4, 0), (32, 1), (128, 2), (1, 3))]


def _swapped(numbers, distances):
    """Numbers of which the one in the lower place keeps the larger, at one distance after another."""
    for distance in distances:
        pairs = numbers.view(-1, 2, distance)
        numbers = torch.stack([pairs.amax(1), pairs.amin(1)], 1).flatten()
    return numbers


@exercise("indexing.smallest", level="open")
def smallest(function):
    """The shortest list by the mean of layers that covers a share of each layer's attention."""
    generator = torch.Generator().manual_seed(4)
    for layers, keys, share in ((6, 40, 0.9), (1, 9, 0.5), (3, 12, 0.8), (2, 20, 0.99)):
        attention = (3 * torch.randn(layers, keys, dtype=torch.float64, generator=generator)).softmax(-1)
        order = attention.mean(0).argsort(descending=True)
        held = attention[:, order].cumsum(1)
        wanted, got = int((held.min(0).values < share).sum()) + 1, function(attention.clone(), share)
        if got == wanted:
            continue
        if got == int((held.mean(0) < share).sum()) + 1:
            return "That covers the share on average: the layer that is served worst decides."
        own = attention.sort(descending=True).values.cumsum(1)
        if got == int((own.min(0).values < share).sum()) + 1:
            return "That sorts each layer by its own attention: one order, the mean's, serves all."
        if got == wanted - 1:
            return "One too few: with so many tokens the share is not reached yet."
        return f"{layers} layers over {keys} tokens need {wanted} tokens for {share:.0%} of each; got {got}."
    return None
