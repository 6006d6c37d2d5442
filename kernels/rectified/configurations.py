"""The one table of tiles, warps and stages that the kernels of rectified sparse attention are launched with."""

from typing import NamedTuple

import torch

from kernels import runtime

HEAD_DIMS = (32, 64, 128)


class Configuration(NamedTuple):
    """How a kernel is launched. rows: of a tile of queries at most; keys: of a tile of keys, or blocks of a tile."""

    rows: int
    keys: int
    warps: int
    stages: int


# By (kernel, bytes per element, head_dim up to): the largest tiles among those tried that compile without a spill for
# sm_80 and sm_90. "decode" gathers its keys by pointers, so it has no use for more rows than a group has heads.
TABLE = {
    ("scores", 2, 128): Configuration(16, 64, 4, 1),
    ("scores", 4, 128): Configuration(16, 32, 4, 1),
    ("decode", 2, 64): Configuration(16, 128, 4, 2),
    ("decode", 2, 128): Configuration(16, 64, 4, 2),
    ("decode", 4, 64): Configuration(16, 64, 4, 2),
    ("decode", 4, 128): Configuration(16, 32, 4, 2),
    ("rectify", 2, 32): Configuration(128, 32, 8, 2),  # 64 keys spill on sm_80
    ("rectify", 2, 64): Configuration(128, 64, 8, 2),
    ("rectify", 2, 128): Configuration(128, 32, 8, 2),
    ("rectify", 4, 64): Configuration(32, 32, 8, 1),
    ("rectify", 4, 128): Configuration(32, 16, 8, 1),
}


def choose(kernel, dtype, *dims):
    """The Configuration for a launch, and the precision of its products.

    Raises RuntimeError where no kernel runs, ValueError for what none can do.
    """
    runtime.require_kernels(dtype)
    if not set(dims) <= set(HEAD_DIMS):
        raise ValueError(
            f"the kernels take a head_dim and value_dim among {HEAD_DIMS}; got {' and '.join(map(str, dims))}: "
            "use implementation='torch'."
        )
    row = next(row for limit in HEAD_DIMS if limit >= max(dims) and (row := (kernel, dtype.itemsize, limit)) in TABLE)
    # Three TF32 products stand for a float32 one; two bytes are multiplied as they are.
    return TABLE[row], "tf32x3" if dtype == torch.float32 else "ieee"
