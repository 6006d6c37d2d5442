"""The hidden cases of the token chapter's exercises."""

import math

import torch

from effattn_core.exercises import compare_number, exercise
from effattn_core.token.forms import key_head_of, speeds


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _same(got, wanted):
    return (
        isinstance(got, torch.Tensor) and got.shape == wanted.shape and torch.allclose(got.double(), wanted, atol=1e-8)
    )


def _shown(got):
    return f"a tensor of shape {tuple(got.shape)}" if isinstance(got, torch.Tensor) else f"a {type(got).__name__}"


@exercise("token.cached_kibibytes", level="pencil")
def cached_kibibytes(answer):
    exact = 2 * 80 * 8 * 128 * 2 / 1024  # keys and values, layers, heads, numbers, bytes
    mistakes = [
        (exact * 8, "That caches all 64 query heads; only the 8 key-value heads are kept."),
        (exact / 2, "A key and a value are kept: that is the factor 2 in front, beside the 2 bytes per number."),
        (exact / 80, "That is one layer; there are 80."),
        (exact * 1024, "That is in bytes; KiB are asked."),
        (exact * 1.024, "That divides by 1,000; a KiB is 1,024 bytes."),
    ]
    return compare_number(answer, exact, mistakes, within=0.005)


@exercise("token.bits_per_letter", level="pencil")
def bits_per_letter(answer):
    if not isinstance(answer, tuple) or len(answer) != 2:
        return "Two numbers are asked: (bits, letters)."
    nats = 1.5
    first = compare_number(answer[0], nats / math.log(2), [
        (nats * math.log(2), "Divide by ln 2, do not multiply: a bit is the smaller unit, so there are more of them."),
        (nats, "That is still in nats."),
    ])  # fmt: skip
    if first is not None:
        return f"Bits: {first}"
    second = compare_number(answer[1], math.exp(nats), [
        (2**nats, "2 is the base for bits; a loss in nats needs e."),
        (2 ** (nats / math.log(2)) / 2, "Half of it: is there a factor of 2 too many?"),
    ])  # fmt: skip
    return None if second is None else f"Letters: {second}"


@exercise("token.slowest_turn", level="pencil")
def slowest_turn(answer):
    slow = speeds(64, 10000.0)[-1].item()
    mistakes = [
        (1 / slow, "That is one radian; a whole turn is 2π radians."),
        (2 * math.pi * 10000, "The slowest pair is i = 31, not 32: its speed is 10000^(−62/64), above 1 / 10000."),
        (2 * math.pi, "That is the fastest pair, i = 0."),
    ]
    return compare_number(answer, 2 * math.pi / slow, mistakes, within=0.02)


@exercise("token.rotate", level="code")
def rotate(function):
    for time, head_dim in ((5, 2), (7, 8), (1, 4)):
        tensor, speed = _random(time, head_dim), speeds(head_dim)
        got, wanted = function(tensor, speed), _interleaved(tensor, speed)
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            return f"The result must be a tensor of shape {tuple(wanted.shape)}; got {_shown(got)}."
        if _same(got, wanted):
            continue
        if _same(got, _interleaved(tensor, -speed)):
            return "The pairs turn the wrong way: (x, y) becomes (x cos − y sin, x sin + y cos)."
        if _same(got, _halves(tensor, speed)):
            return "You paired dimension i with i + head_dim / 2; here neighbours 2i and 2i + 1 are a pair."
        if _same(got, _interleaved(tensor, speed, first=1)):
            return "The first token stands at position 0 and is not turned."
        if not torch.allclose(got.norm(dim=-1).double(), tensor.norm(dim=-1)):
            return "A turned vector keeps its length; yours does not. Are both of a pair computed from the old x and y?"
        return f"For {time} tokens of {head_dim} dimensions the result differs: is pair i turned by t · speed[i]?"
    return None


def _interleaved(tensor, speed, first=0):
    angle = torch.arange(first, first + len(tensor), dtype=torch.float64)[:, None] * speed
    x, y = tensor[:, 0::2], tensor[:, 1::2]
    return torch.stack((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), -1).flatten(1)


def _halves(tensor, speed):
    angle = torch.arange(len(tensor), dtype=torch.float64)[:, None] * speed
    x, y = tensor.chunk(2, -1)
    return torch.cat((x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()), -1)


@exercise("token.repeat_heads", level="code")
def repeat_heads(function):
    for heads, key_value_heads in ((8, 2), (6, 6), (4, 1)):
        keys = _random(2, key_value_heads, 3, 5)
        got = function(keys, heads)
        wanted = keys[:, [key_head_of(head, heads, key_value_heads) for head in range(heads)]]
        if _same(got, wanted):
            continue
        if not isinstance(got, torch.Tensor) or got.shape != wanted.shape:
            return f"{heads} query heads need keys of shape {tuple(wanted.shape)}; got {_shown(got)}."
        if _same(got, keys.repeat(1, heads // key_value_heads, 1, 1)):
            return (f"With {heads} query heads and {key_value_heads} key heads, query head 1 must read key head 0: "
                    "neighbours share. You repeat the whole list of key heads instead.")  # fmt: skip
        return f"With {heads} query heads and {key_value_heads} key heads some head reads the wrong keys."
    return None


@exercise("token.loss", level="code")
def loss(function):
    cases = [(_random(4, 7), torch.tensor([0, 6, 3, 3])), (_random(1, 3), torch.tensor([2]))]
    cases += [(1000 * _random(3, 5), torch.tensor([0, 1, 2]))]
    for logits, target in cases:
        got = function(logits, target)
        shares = logits.softmax(-1)
        wanted = torch.nn.functional.cross_entropy(logits, target)
        if not isinstance(got, torch.Tensor) or got.ndim:
            return f"Return one number, the mean over tokens; got {_shown(got)}."
        if not got.isfinite():
            return (
                "The loss is not finite for logits near 1,000: subtract the largest logit first (torch.logsumexp does)."
            )
        if torch.isclose(got.double(), wanted, rtol=1e-6):
            continue
        if torch.isclose(got.double(), wanted / math.log(2), rtol=1e-6):
            return "That is in bits; the book's losses are in nats, with the natural logarithm."
        if torch.isclose(got.double(), wanted * len(target), rtol=1e-6):
            return "That is the sum over tokens; the mean is asked."
        if torch.isclose(got.double(), -wanted, rtol=1e-6):
            return "The sign: a loss is minus the mean log of the share, so never negative."
        if torch.isclose(got.double(), -(shares * logits.log_softmax(-1)).sum(-1).mean(), rtol=1e-6):
            return "That is the entropy of the model's own prediction; the loss looks only at the token that came."
        return f"For {len(target)} tokens the loss is {wanted:.4f}; got {got:.4f}."
    return None
