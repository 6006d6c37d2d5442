"""A parameter as one process has it: its own elements, and where they begin among all elements of the parameter."""

import sys
from typing import NamedTuple

import torch


class Shard(NamedTuple):
    """local: this process's tensor. base: the place of its first element; count: elements of the whole parameter."""

    local: torch.Tensor
    base: int
    count: int


def shard(tensor: torch.Tensor) -> Shard:
    """The Shard of a tensor, a DTensor (FSDP2) or a plain one.

    Rows may be split over one dimension of a mesh (`Shard(0)`), or copies be kept. Raises ValueError for another
    placement: then local elements do not follow each other in the whole.
    """
    distributed = sys.modules.get("torch.distributed.tensor")  # slow to import, and who has a DTensor has done so
    if distributed is None or not isinstance(tensor, distributed.DTensor):
        return Shard(tensor, 0, tensor.numel())
    local, base, rows = tensor.to_local(), 0, tensor.shape[0] if tensor.ndim else 1
    split = [(axis, each) for axis, each in enumerate(tensor.placements) if not each.is_replicate()]
    if len(split) > 1 or any(type(each) is not distributed.Shard or each.dim != 0 for _, each in split):
        placements = ", ".join(map(str, tensor.placements))
        raise ValueError(f"a parameter must be split by rows over one dimension, or be copied; it is ({placements}).")
    for axis, _ in split:
        mesh = tensor.device_mesh
        share = -(-rows // mesh.size(axis))
        base = min(rows, share * mesh.get_local_rank(axis)) * (tensor.numel() // max(1, rows))
    return Shard(local, base, tensor.numel())
