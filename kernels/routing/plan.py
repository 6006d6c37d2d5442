"""Which rows belong to which expert, and which tile to which rows: on the device alone, without a wait for the host.

Rows are the choices of the tokens, `choices` each, sorted by expert and then by token. Choices that were dropped come
last, as the group after the last expert: what is computed of them is written, as zeros.
"""

from typing import NamedTuple

import torch


class Plan(NamedTuple):
    """order: int64 [rows], the choice (token · choices + which) that lies in each row; place: int64 [tokens, choices],
    the row of each choice; offsets: int64 [experts + 2], the first row of each expert, of the dropped, and the end.

    tile_expert: int32 [tiles], -1 for a tile that nobody needs; tile_first: int64 [tiles], a tile's first row. Tiles
    have block_row rows; their number is a bound that follows from the shapes.
    """

    order: torch.Tensor
    place: torch.Tensor
    offsets: torch.Tensor
    tile_expert: torch.Tensor
    tile_first: torch.Tensor
    block_row: int


def tiles_bound(rows, groups, block_row):
    """Tiles that `rows` rows in `groups` groups need at most: a whole number of them, and a ragged one per group."""
    return rows // block_row + min(groups, rows)


def make_plan(expert, experts, block_row):
    """The Plan of expert: int64 [tokens, choices], numbers below `experts`, or negative for a choice that was dropped.

    No value is looked at on the host: `bincount` and `nonzero` would wait for the device.
    """
    flat = torch.where(expert < 0, experts, expert).reshape(-1)
    rows, device = flat.numel(), expert.device
    order = flat.argsort(stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(rows, device=device))
    offsets = torch.searchsorted(flat[order], torch.arange(experts + 2, device=device))
    tiles = (offsets.diff() + block_row - 1) // block_row
    last = tiles.cumsum(0)
    tile = torch.arange(tiles_bound(rows, experts + 1, block_row), device=device)
    # right=True: the first group whose tiles end after this one; groups without a tile are passed over.
    group = torch.searchsorted(last, tile, right=True)
    inside = group.clamp(max=experts)
    first = offsets[inside] + (tile - last[inside] + tiles[inside]) * block_row
    return Plan(order, place.view_as(expert), offsets, torch.where(group > experts, -1, group).int(), first, block_row)
