"""The exercises on key channels: an unsolved stub fails, a solution passes, and each known mistake is named."""

import pytest
import torch
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


SOLVED = {"channels.mask": mask, "channels.permute": permute, "channels.empty": empty, "channels.bytes": share}
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
]


@pytest.mark.parametrize("name", SOLVED)
def test_the_stub_fails_and_the_solution_passes(name):
    assert_solved(name, SOLVED[name])


@pytest.mark.parametrize(("name", "mistake", "sentence"), MISTAKES)
def test_each_known_mistake_is_named(name, mistake, sentence):
    assert_named(name, mistake, sentence)
