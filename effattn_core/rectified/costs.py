"""What rectified sparse attention costs: shares of the cache read per token, the kernels' traffic, the bill."""

import math
from dataclasses import dataclass, replace

import torch

from effattn_core import costs
from effattn_core.bill import Stage


@dataclass(frozen=True)
class Share:
    """Shares of the cache's bytes that a decoded token reads, by what they are read for."""

    descriptors: float
    blocks: float
    rectification: float

    @property
    def total(self):
        return self.descriptors + self.blocks + self.rectification


def share(block_size, active, period):
    """1/b + p + 1/f of the cache a token (eq. resa-bytes; Sun et al. 2025, eq. 6): a Share.

    Two bounds stand for the keys and values of a block: 1/b. active: p, the share of blocks read. Every `period` tokens
    f the whole cache is read once; period 0 never. Exact where the last block is whole.
    Raises ValueError for a block of no token, or a share outside [0, 1].
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1; it is {block_size}.")
    if not 0 <= active <= 1:
        raise ValueError(f"active is a share of the blocks, in [0, 1]; it is {active}.")
    return Share(1 / block_size, active, 1 / period if period else 0.0)


def _tiles(kernel, head_dim, element):
    """The kernel's entry of the table of configurations; imported here, since the shares need no triton."""
    from kernels.rectified.configurations import choose

    return choose(kernel, torch.float32 if element == 4 else torch.float16, head_dim)[0]


def step_traffic(batch, group, key_heads, time, head_dim, count, *, block_size, splits, element=4):
    """Exactly what scores, decoding and merge move for one token that reads `count` whole blocks per key head.

    Beside bounds and blocks: queries (once a tile of scores, once a split), the list, and float32 scores and parts.
    Products are counted as the tiles that the hardware multiplies, padding included.
    """
    scoring, decoding = _tiles("scores", head_dim, element), _tiles("decode", head_dim, element)
    blocks, rows = time // block_size, max(decoding.rows, 1 << (group - 1).bit_length())
    query = group * head_dim * element
    loaded = -(-blocks // scoring.keys) * query + 2 * blocks * head_dim * element
    loaded += splits * query + 4 * count + 2 * count * block_size * head_dim * element
    loaded += group * splits * 4 * (head_dim + 1)
    stored = 4 * blocks + group * splits * 4 * (head_dim + 1) + group * (head_dim * element + 4)
    tile = max(1, decoding.keys // block_size)
    span = max(1, math.ceil(math.ceil(count / splits) / tile)) * tile
    tiles = sum(-(-max(0, min(span, count - split * span)) // tile) for split in range(splits))
    flops = tiles * 4 * rows * tile * block_size * head_dim
    return costs.Traffic(*(batch * key_heads * each for each in (loaded, stored, flops)))


def rectify_traffic(batch, group, key_heads, time, head_dim, period, *, splits, element=4):
    """Exactly what the rectification of `period` tokens moves: the cache once a tile of rows, queries once a split."""
    configuration = _tiles("rectify", head_dim, element)
    rows = period * group
    tile = max(16, min(configuration.rows, 1 << (rows - 1).bit_length()))
    parts = rows * splits * 4 * (head_dim + 1)
    loaded = splits * rows * head_dim * element + -(-rows // tile) * 2 * time * head_dim * element + parts
    stored = parts + rows * (head_dim * element + 4)
    return costs.Traffic(batch * key_heads * loaded, batch * key_heads * stored, 0)


BLOCK_SIZE, ACTIVE, PERIOD = 16, 0.1, 32  # of the released code


def _changes(lines, context):
    """Every layer decodes by ReSA: what is read per token falls, what is kept grows by the bounds."""
    read, cache = share(BLOCK_SIZE, ACTIVE, PERIOD), lines["cache"].text
    return {
        "cache": replace(
            lines["cache"],
            text=cache * (1 + read.descriptors),
            parts=("", "cache and bounds"),
            explanation="keys and values per token, and two bounds per block",
        ),
        "decode": replace(
            lines["decode"],
            text=cache * read.total,
            parts=("weights", "bounds and blocks"),
            explanation="all weights, all bounds, the chosen blocks, a share of the rectification",
        ),
    }


STAGE = Stage(
    topic="rectified",
    place=(4, 1),
    method="ReSA",
    design="grouped heads that decode by blocks",
    on="attention",
    changes=_changes,
    cost="The cache grows by its bounds; every token sees chosen blocks only, and may miss what it needed.",
)
