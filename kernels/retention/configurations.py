"""The one table of chunk sizes, tiles, warps and stages that the retention kernels are launched with."""

from typing import NamedTuple

import torch

from kernels import runtime

DIMS = (32, 64, 128)


class Configuration(NamedTuple):
    """How a kernel is launched. block_key, block_value: columns of key and value of a tile, at most."""

    block_key: int
    block_value: int
    warps: int
    stages: int


# Tokens per chunk, by bytes per element and the larger of key_dim and value_dim up to: the states that pass through
# memory shrink as it grows, and the products inside a chunk grow.
CHUNK = {(2, 64): 128, (2, 128): 64, (4, 128): 32}

# By (kernel, bytes per element, larger dim up to): the largest tiles among those tried that compile without a spill for
# sm_80 and sm_90. A fourth entry names one architecture: on sm_90 accumulators of a warp group take fewer registers.
TABLE = {
    ("states", 2, 128): Configuration(64, 64, 4, 3),
    ("states", 4, 128): Configuration(32, 32, 4, 2),
    ("states", 4, 128, 90): Configuration(32, 32, 4, 3),  # with two stages the compiler spills for occupancy
    ("outputs", 2, 64): Configuration(64, 64, 8, 1),
    ("outputs", 2, 128): Configuration(64, 64, 4, 1),
    ("outputs", 2, 128, 90): Configuration(128, 64, 4, 1),
    ("outputs", 4, 128): Configuration(32, 32, 4, 1),
    ("grad_value", 2, 64): Configuration(64, 64, 8, 1),
    ("grad_value", 2, 128): Configuration(64, 64, 4, 1),
    ("grad_value", 2, 128, 90): Configuration(128, 64, 4, 1),
    ("grad_value", 4, 128): Configuration(32, 32, 4, 1),
    ("grad_query_key", 2, 128): Configuration(32, 32, 8, 1),
    ("grad_query_key", 2, 64, 90): Configuration(64, 64, 8, 1),
    ("grad_query_key", 2, 128, 90): Configuration(64, 64, 4, 1),
    ("grad_query_key", 4, 128): Configuration(32, 32, 4, 1),
    ("step", 2, 128): Configuration(128, 32, 4, 1),
    ("step", 4, 128): Configuration(128, 32, 4, 1),
}


# What these two take in two bytes where Triton has a known fault (kernels.runtime): it got wider tiles wrong. Seen
# right with Triton 3.6.0 on an H200 in bfloat16, for key_dim and value_dim of 32 and 128, 64 and 32, 64 and 64, 128 and
# 128; other pairs and float16: not known.
CAREFUL = {name: Configuration(32, 32, 4, 1) for name in ("grad_value", "grad_query_key")}


def _limits(wide):
    return (limit for limit in DIMS if limit >= wide)


def check(dtype, key_dim, value_dim):
    """Raise RuntimeError where no kernel runs, ValueError for what none can do."""
    runtime.require_kernels(dtype)
    if key_dim not in DIMS or value_dim not in DIMS:
        raise ValueError(
            f"the kernels take a key_dim and value_dim among {DIMS}; got {key_dim} and {value_dim}: "
            "use implementation='torch'."
        )


def chunk_for(dtype, key_dim, value_dim):
    """Tokens per chunk: the same for every kernel of a call, which pass each other the states between chunks."""
    check(dtype, key_dim, value_dim)
    return next(
        CHUNK[dtype.itemsize, limit] for limit in _limits(max(key_dim, value_dim)) if (dtype.itemsize, limit) in CHUNK
    )


def choose(kernel, dtype, key_dim, value_dim):
    """Constants of a launch: {BLOCK_KEY, BLOCK_VALUE, PRECISION, num_warps, num_stages}; no tile wider than its dim."""
    check(dtype, key_dim, value_dim)
    found = _row(kernel, dtype, max(key_dim, value_dim))
    if kernel in CAREFUL and dtype.itemsize == 2 and runtime.known_fault():
        found = CAREFUL[kernel]
    return dict(
        BLOCK_KEY=min(found.block_key, key_dim),
        BLOCK_VALUE=min(found.block_value, value_dim),
        # Three TF32 products stand for a float32 one; two bytes are multiplied as they are.
        PRECISION="tf32x3" if dtype == torch.float32 else "ieee",
        num_warps=found.warps,
        num_stages=found.stages,
    )


def _row(kernel, dtype, wide):
    for limit in _limits(wide):
        for row in ((kernel, dtype.itemsize, limit, runtime.architecture()), (kernel, dtype.itemsize, limit)):
            if row in TABLE:
                return TABLE[row]
    raise LookupError(f"the configuration table has no row for {kernel}, {dtype}, widths up to {wide}: add one.")
