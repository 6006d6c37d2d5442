"""A needle to be found by one layer of attention with random keys: which channels does the search need?

Small enough to learn a mask in seconds: two heads of 64, a text of 384 tokens, sinks of 4 and the latest 32 read whole.
The key of one token in the middle is the query itself and a little noise; both turn by rotary positions.
"""

import torch
from torch.nn import functional

from effattn_core.channels import build_mask, masked
from effattn_core.channels.training import PENALTY, by_frequency, descend
from effattn_core.positions import rotate

HEADS, HEAD_DIM, TOKENS, NOISE, BASE = 2, 64, 384, 0.3, 10000.0
STRENGTH = 1.36  # of the query over other keys: dense attention then finds the needle in some texts and not in others
REGION = dict(sinks=4, recent=32, empty="zero")
RULES = ("learned", "random", "fastest pairs")


def texts(count, generator):
    """(query, key, value) of `count` texts: query [count, HEADS, 1, HEAD_DIM] at the last place, keys with a needle."""
    shape = (count, HEADS, TOKENS, HEAD_DIM)
    content, noise = torch.randn(2, count, HEADS, HEAD_DIM, generator=generator)
    content = STRENGTH * content
    key, value = torch.randn(2, *shape, generator=generator)
    first, last = REGION["sinks"], TOKENS - REGION["recent"]
    place = torch.randint(first, last, (count,), generator=generator)
    key[torch.arange(count), :, place] = content + NOISE * noise
    return rotate(content[:, :, None], TOKENS - 1, BASE), rotate(key, 0, BASE), value


def distance(factor, query, key, value):
    """Mean squared difference of the outputs under `factor`, [HEADS, HEAD_DIM], from those of dense attention."""
    dense, ours = (masked(query, key, value, each, **REGION).output for each in (torch.ones_like(factor), factor))
    return functional.mse_loss(ours, dense)


def learn(generator, *, steps=300, count=16, learning_rate=0.02, penalty=PENALTY):
    """Importances, [HEADS, HEAD_DIM], after `steps` of AdamW on fresh texts: stage 1 of `channels_training.learn`."""
    start = torch.ones(HEADS, HEAD_DIM)
    stage = dict(steps=steps, learning_rate=learning_rate, penalty=penalty, progress=False)
    return descend(lambda factor: distance(factor, *texts(count, generator)), start, **stage)


@torch.no_grad()
def compare(importance, shares, generator, count=512):
    """Rows of a table: for each share pruned and rule, the error of the output on `count` fresh texts.

    The last row's rule is "nothing read": the mean square of the dense output itself, for scale.
    """
    query, key, value = texts(count, generator)
    rules = dict(zip(RULES, (importance, torch.rand(importance.shape, generator=generator),
                             by_frequency(importance.shape, fastest=True)), strict=True))  # fmt: skip
    dense = masked(query, key, value, torch.ones_like(importance), **REGION).output
    rows = []
    for pruned in shares:
        for rule, each in rules.items():
            ours = masked(query, key, value, build_mask(each, pruned).float(), **REGION).output
            rows.append({"rule": rule, "pruned": pruned, "error": functional.mse_loss(ours, dense).item()})
    power = dense.square().mean().item()
    return [*rows, {"rule": "nothing read", "pruned": 1.0, "error": power}]


@torch.no_grad()
def control(importances, shares, *, count=256, seed=7):
    """Rows of a table on fresh texts: for each share pruned the mean error of `importances`, and of "slowest pairs".

    importances: a list of [HEADS, HEAD_DIM], learned from several seeds. Slowest pairs are kept without any training.
    "spread" is the standard error of their difference, text by text: both read the same ones.
    """
    given = texts(count, torch.Generator().manual_seed(seed))
    slowest = by_frequency(importances[0].shape)
    dense = masked(*given, torch.ones_like(importances[0]), **REGION).output

    def errors(importance, pruned):
        ours = masked(*given, build_mask(importance, pruned).float(), **REGION).output
        return (ours - dense).square().flatten(1).mean(1)

    rows = []
    for pruned in shares:
        learned = torch.stack([errors(each, pruned) for each in importances]).mean(0)
        untrained = errors(slowest, pruned)
        rows.append({"pruned": pruned, "learned": learned.mean().item(), "slowest pairs": untrained.mean().item(),
                     "spread": (untrained - learned).std().item() / count**0.5})  # fmt: skip
    return rows


def mean_cosines(parts=8):
    """Mean cosine of the turn between query and needle over all places where the needle may lie, by parts of the pairs.

    A list of `parts` means, fastest pairs first: what is left, on average, of what a pair's members have in common.
    """
    between = torch.arange(REGION["recent"], TOKENS - REGION["sinks"])  # tokens from the needle to the query
    speed = BASE ** -torch.linspace(0, 1, HEAD_DIM // 2 + 1)[:-1]
    return (speed[:, None] * between).cos().mean(1).view(parts, -1).mean(1).tolist()
