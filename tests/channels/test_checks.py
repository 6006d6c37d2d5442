"""The exercises on key channels: an unsolved stub fails, a solution passes, and each known mistake is named."""

import math

import pytest
import torch
import triton
import triton.language as tl
from support.house import assert_named, assert_solved

from effattn_core.channels import keep_top


def mask(importance, pruned, align, down=False, alone=False, first=False):
    flat = importance if alone else importance.flatten()
    threshold = flat.quantile(pruned, dim=-1, keepdim=True)
    count = (importance >= threshold).sum(-1, keepdim=True)
    count = (count + (0 if down else align // 2)) // align * align
    return torch.arange(importance.shape[-1]) < count if first else keep_top(importance, count)


def permute(query, key, value, output, order, head_dim, columns=True, together=True):
    key_heads = len(order)
    group = len(query) // len(key)
    whole = [each.unflatten(0, (key_heads, -1))[order].flatten(0, 1) for each in (query, key, value)]
    if not together:
        heads = torch.cat([order + key_heads * part for part in range(group)])
        whole[0] = query.unflatten(0, (-1, head_dim))[heads].flatten(0, 1)
    moved = output.unflatten(1, (key_heads, -1))[:, order].flatten(1, 2)
    return *whole, moved if columns else output


def empty(logits, far):
    return far / (far + logits.exp().sum()), 0.0


def share(counts, head_dim, values=True):
    kept = sum(counts) / (len(counts) * head_dim)
    return (kept + 1 - values * counts.count(0) / len(counts)) / 2


@triton.jit
def pack_kernel(
    Key, Ids, Thin, tokens, dim, count, N: tl.constexpr, C: tl.constexpr, OWN: tl.constexpr, GUARDED: tl.constexpr,
):  # fmt: skip
    head, lanes = tl.program_id(0), tl.arange(0, C)
    here = lanes < count
    kept = tl.load(Ids + head * OWN * count + lanes, mask=here, other=0)
    row = tl.program_id(1) * N + tl.arange(0, N)
    inside = (row < tokens)[:, None] & here[None, :]
    row = (head * tokens + row)[:, None]
    thin = tl.load(Key + row * dim + kept[None, :], mask=inside)
    if GUARDED:
        tl.store(Thin + row * count + lanes[None, :], thin, mask=inside)
    else:
        tl.store(Thin + row * count + lanes[None, :], thin)


def pack(key, kept, own=True, guarded=True, blocks=None, order=lambda kept: kept):
    """Kept channels by a Triton kernel. own: each head its list; blocks: of tokens, all if None; order: of the list."""
    heads, tokens, dim = key.shape
    count, kept = kept.shape[1], order(kept)
    thin = key.new_empty(heads, tokens, count)
    grid = heads, blocks or triton.cdiv(tokens, 16)
    lanes = triton.next_power_of_2(count)
    pack_kernel[grid](key, kept, thin, tokens, dim, count, 16, lanes, OWN=int(own), GUARDED=guarded)
    return thin


def rule(head_dim, base, nearest, farthest):
    speed = base ** -(torch.arange(0, head_dim, 2) / head_dim)
    return (speed[:, None] * torch.arange(nearest, farthest)).cos().mean(1).repeat_interleave(2)


def ranked(head_dim):
    return torch.arange(float(head_dim))


SOLVED = {
    "channels.mask": mask,
    "channels.permute": permute,
    "channels.empty": empty,
    "channels.bytes": share,
    "channels.token_bytes": 2 * (120 * (32 + 128) + 67 * (64 + 128) + 22 * (96 + 128)),
    "channels.half_mass": 1152 * math.exp(4),
    "channels.slow_pairs": 16,
    "channels.pack": pack,
    "channels.rule": rule,
}
MISTAKES = [
    ("channels.mask", lambda *case: mask(*case).float(), "it must be torch.bool"),
    ("channels.mask", lambda i, p, a: mask(i, p, 1), "no multiple of 8"),
    ("channels.mask", lambda *case: mask(*case, first=True), "keep the most important"),
    ("channels.mask", lambda *case: mask(*case, down=True), "rounded down"),
    ("channels.mask", lambda *case: mask(*case, alone=True), "one threshold over all"),
    ("channels.permute", lambda *case: permute(*case, columns=False), "its *columns* follow"),
    ("channels.permute", lambda *case: permute(*case, together=False), "must move together"),
    ("channels.permute", lambda q, k, v, o, order, d: (q, k, v, o), "head order[0] first"),
    ("channels.permute", lambda q, k, v, o, order, d: (q, k[:2], v, o), "it must stay"),
    ("channels.empty", lambda logits, far: (far / (far + len(logits)), 0.0), "That counts tokens"),
    ("channels.empty", lambda logits, far: (0.0, 0.0), "not a weight of 0"),
    ("channels.empty", lambda logits, far: (empty(logits, far)[0], 0.1), "its share is 0"),
    ("channels.empty", lambda logits, far: (0.9, 0.0), "As trained the middle takes"),
    ("channels.bytes", lambda *case: share(*case, values=False), "drop their values too"),
    ("channels.bytes", lambda counts, d: sum(counts) / (len(counts) * d), "the keys alone"),
    ("channels.bytes", lambda counts, d: 0.5, "the share is"),
    ("channels.token_bytes", 2 * (120 * 32 + 67 * 64 + 22 * 96 + 256 * 128), "drop their values too"),
    ("channels.token_bytes", 2 * (120 * 32 + 67 * 64 + 22 * 96), "128 numbers of value as well"),
    ("channels.token_bytes", 36992, "bfloat16 has two bytes"),
    ("channels.token_bytes", 131072, "before the mask"),
    ("channels.token_bytes", 4 * 128 * 209, "drops the empty heads alone"),
    ("channels.half_mass", 1152, "weighs exp(4), not 1"),
    ("channels.half_mass", 4608, "not of 4"),
    ("channels.half_mass", 1152 * 16, "base e"),
    ("channels.half_mass", 1152 / math.exp(4), "Divided the wrong way"),
    ("channels.half_mass", 65536, "too large, by a factor of 1.04"),
    ("channels.slow_pairs", 48, "do come round"),
    ("channels.slow_pairs", 32, "a pair has two"),
    ("channels.slow_pairs", 7, "not 1 radian"),
    ("channels.pack", lambda key, kept: key.gather(-1, kept[:, None].expand(-1, key.shape[1], -1)), "No Triton kernel"),
    ("channels.pack", lambda *case: pack(*case, guarded=False), "mask tokens and channels"),
    ("channels.pack", lambda *case: pack(*case, own=False), "its own head"),
    ("channels.pack", lambda *case: pack(*case, blocks=1), "are never written"),
    ("channels.pack", lambda *case: pack(*case, order=lambda kept: kept.sort().values), "their order is not"),
    (
        "channels.pack",
        lambda *case: pack(*case, order=lambda kept: kept * 0 + ranked(kept.shape[1]).long()),
        "the first",
    ),
    ("channels.pack", lambda *case: pack(*case, order=lambda kept: kept.flip(1)), "at the channel that the list names"),
    ("channels.pack", lambda *case: pack(*case).mT, "must be a tensor of shape (1, 16, 8); got (1, 8, 16)"),
    ("channels.rule", lambda *case: rule(*case)[:8], "one importance per channel"),
    ("channels.rule", lambda *case: rule(*case).expand(2, 64), "one importance per channel"),
    ("channels.rule", lambda *case: rule(*case).log(), "not finite"),
    ("channels.rule", lambda *case: torch.cat([rule(*case)[::2]] * 2), "Pairs are neighbours here"),
    ("channels.rule", lambda dim, *case: -ranked(dim), "pairs that turn too far"),
    ("channels.rule", lambda dim, *case: ranked(dim) // 32, "tie at the threshold"),
    ("channels.rule", lambda dim, *case: ranked(dim) * 37 % 64, "that of the slowest pairs is"),
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
