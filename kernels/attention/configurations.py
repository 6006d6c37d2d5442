"""The one table of block sizes, warps, stages and dot precision that the attention kernels are launched with."""

from typing import NamedTuple

from kernels import runtime

HEAD_DIMS = (32, 64, 128)


class Configuration(NamedTuple):
    """How a kernel is launched. precision: of every tl.dot in it, see `input_precision` in Triton's reference."""

    block_query: int
    block_key: int
    warps: int
    stages: int
    precision: str


# Keyed by (kernel, bytes an element, the larger of head_dim and value_dim up to): the largest blocks among those tried
# that compile without a spill, causal and windowed, for sm_80 and sm_90. A fourth entry names one architecture.
TABLE = {
    ("forward", 2, 32, 80): Configuration(128, 32, 8, 3, "ieee"),  # 64 keys spill
    ("forward", 2, 64): Configuration(128, 64, 8, 3, "ieee"),
    ("forward", 2, 128): Configuration(128, 32, 8, 3, "ieee"),
    ("forward", 4, 64): Configuration(32, 32, 4, 2, "tf32x3"),  # float32 tiles hold three TF32 parts of each operand
    ("forward", 4, 64, 90): Configuration(64, 32, 4, 2, "tf32x3"),
    ("forward", 4, 128): Configuration(32, 16, 8, 1, "tf32x3"),
    ("backward_key_value", 2, 64): Configuration(32, 64, 4, 2, "ieee"),
    ("backward_key_value", 2, 128): Configuration(16, 64, 8, 2, "ieee"),
    ("backward_key_value", 2, 128, 90): Configuration(32, 64, 8, 2, "ieee"),
    ("backward_key_value", 4, 32): Configuration(32, 16, 4, 1, "tf32x3"),
    ("backward_key_value", 4, 64): Configuration(32, 32, 8, 1, "tf32x3"),
    ("backward_key_value", 4, 128): Configuration(32, 16, 8, 1, "tf32x3"),
    ("backward_query", 2, 64): Configuration(64, 32, 4, 2, "ieee"),
    ("backward_query", 2, 128): Configuration(64, 64, 8, 2, "ieee"),
    ("backward_query", 4, 64): Configuration(32, 16, 4, 1, "tf32x3"),
    ("backward_query", 4, 128): Configuration(16, 32, 4, 1, "tf32x3"),
    ("decode", 2, 32, 90): Configuration(16, 128, 4, 3, "ieee"),  # with two stages the compiler spills for occupancy
    ("decode", 2, 64): Configuration(16, 128, 4, 2, "ieee"),
    ("decode", 2, 128): Configuration(16, 64, 4, 2, "ieee"),
    ("decode", 4, 64): Configuration(16, 64, 4, 2, "tf32x3"),
    ("decode", 4, 64, 80): Configuration(16, 32, 4, 2, "tf32x3"),  # 64 keys spill where a group is no power of two
    ("decode", 4, 128): Configuration(16, 32, 4, 2, "tf32x3"),
}


def choose(kernel, dtype, head_dim, value_dim):
    """The Configuration for a launch. Raises RuntimeError where no kernel runs, ValueError for what none can do."""
    runtime.require_kernels(dtype)
    if head_dim not in HEAD_DIMS or value_dim not in HEAD_DIMS:
        raise ValueError(
            f"the kernels take a head_dim and value_dim among {HEAD_DIMS}; got {head_dim} and {value_dim}: "
            "use implementation='torch'."
        )
    wide = max(head_dim, value_dim)
    for limit in (limit for limit in HEAD_DIMS if limit >= wide):
        for key in ((kernel, dtype.itemsize, limit, runtime.architecture()), (kernel, dtype.itemsize, limit)):
            if key in TABLE:
                return TABLE[key]
    raise LookupError(f"the configuration table has no row for {kernel}, {dtype}, {wide}: add one.")
