"""The one table of chunks, tiles, warps, stages and dot precision that the recurrence kernels are launched with."""

from typing import NamedTuple

import triton.language as tl

from kernels import runtime

# exp2 of this is 0 in float32 already. A gate of -inf is raised to it: -inf - -inf between two tokens would be nan.
STRONGEST = tl.constexpr(-160.0)
HEAD_DIMS = (32, 64, 128)


class Configuration(NamedTuple):
    """How a kernel is launched: tiles of key and value dimensions; precision of every tl.dot, see `input_precision`."""

    block_key: int
    block_value: int
    warps: int
    stages: int
    precision: str


# Tokens per chunk, by bytes per element: one number for all kernels of a call, since they hand each other states. A
# power of two. 64 rows are what a warp group multiplies at once on sm_90.
CHUNK = {2: 64, 4: 32}

# Keyed by (kernel, gate, bytes per element, the larger of key_dim and value_dim up to): of the tiles tried, those that
# compile without a spill for sm_80 and sm_90 and leave most warps resident. A fifth entry names one architecture.
TABLE = {
    ("states", "scalar", 2, 128): Configuration(64, 64, 8, 2, "ieee"),
    ("states", "vector", 2, 128): Configuration(64, 64, 8, 2, "ieee"),
    ("states", "scalar", 4, 128): Configuration(32, 32, 4, 2, "tf32x3"),
    ("states", "vector", 4, 128): Configuration(32, 32, 4, 2, "tf32x3"),
    ("outputs", "scalar", 2, 64): Configuration(32, 64, 8, 2, "ieee"),
    ("outputs", "scalar", 2, 128): Configuration(64, 128, 8, 2, "ieee"),  # one tile: scores are computed once
    ("outputs", "vector", 2, 128): Configuration(32, 64, 8, 1, "ieee"),
    ("outputs", "scalar", 4, 128): Configuration(32, 32, 4, 1, "tf32x3"),
    ("outputs", "vector", 4, 128): Configuration(32, 32, 4, 1, "tf32x3"),
    ("gradients", "scalar", 2, 128): Configuration(32, 64, 8, 2, "ieee"),
    ("gradients", "vector", 2, 128): Configuration(32, 64, 8, 1, "ieee"),
    ("gradients", "scalar", 2, 128, 80): Configuration(16, 64, 8, 1, "ieee"),  # no warp-group products, more registers
    ("gradients", "vector", 2, 128, 80): Configuration(16, 32, 8, 1, "ieee"),
    ("gradients", "scalar", 4, 128): Configuration(16, 16, 4, 1, "tf32x3"),  # TF32 in three parts each
    ("gradients", "vector", 4, 128): Configuration(16, 16, 8, 1, "tf32x3"),
    # All rows of a few columns: nothing is a matrix product, the precision plays no part.
    ("delta", "scalar", 2, 128): Configuration(128, 16, 4, 1, "ieee"),
    ("delta", "scalar", 4, 128): Configuration(128, 16, 4, 1, "ieee"),
}


def choose(kernel, dtype, key_dim, value_dim, vector):
    """(CHUNK, Configuration) of a launch. Raises RuntimeError where no kernel runs, ValueError for what none can do."""
    runtime.require_kernels(dtype)
    if key_dim not in HEAD_DIMS or value_dim not in HEAD_DIMS:
        raise ValueError(
            f"the kernels take a key_dim and value_dim among {HEAD_DIMS}; got {key_dim} and {value_dim}: "
            "use implementation='torch'."
        )
    gate, wide = "vector" if vector else "scalar", max(key_dim, value_dim)
    for limit in (limit for limit in HEAD_DIMS if limit >= wide):
        for special in ((runtime.architecture(),), ()):
            row = TABLE.get((kernel, gate, dtype.itemsize, limit, *special))
            if row is not None:
                tiles = dict(block_key=min(row.block_key, key_dim), block_value=min(row.block_value, value_dim))
                return CHUNK[dtype.itemsize], row._replace(**tiles)
    raise LookupError(f"the configuration table has no row for {kernel}, {gate}, {dtype}, {wide}: add one.")
